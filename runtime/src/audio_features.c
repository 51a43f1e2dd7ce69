/* Sound to log-mel bands or MFCC: window, transform, power, bands, logarithm, cosine transform. */
#include "ondevice/audio_features.h"

#include <stddef.h>
#include <string.h>

#include "ondevice/model.h"

#define WEIGHT_ONE 4096u

uint32_t od_audio_frames(const od_audio_features_t *features, uint32_t samples) {
    if (samples < features->frame_samples) {
        return 0;
    }
    return 1u + (samples - features->frame_samples) / features->hop_samples;
}

/* The bands' sums, then the transform's values. */
uint32_t od_audio_scratch_bytes(const od_audio_features_t *features) {
    return (uint32_t)(features->mels * sizeof(uint64_t) + features->fft_size * sizeof(int32_t));
}

/* The windowed samples as half as many complex numbers, zeros behind them. */
static void load_frame(const od_audio_features_t *features, const int16_t *samples,
                       int32_t *values) {
    memset(values, 0, features->fft_size * sizeof *values);
    for (uint32_t i = 0; i < features->frame_samples; i++) {
        values[i] = ((int32_t)samples[i] * features->window[i] + (1 << 14)) >> 15;
    }
}

/* Power of twice the spectrum of real samples at bin k, from the transform of their pairs. */
static uint64_t power(const int32_t *values, size_t pairs, const int32_t *twiddles, size_t k) {
    const int32_t *z = values + 2u * k;
    const int32_t *mirror = values + 2u * ((pairs - k) % pairs);
    const int32_t *w = twiddles + 2u * k;
    const int32_t odd[2] = {z[0] - mirror[0], z[1] + mirror[1]};
    const int64_t re = (int64_t)odd[0] * w[0] - (int64_t)odd[1] * w[1];
    const int64_t im = (int64_t)odd[0] * w[1] + (int64_t)odd[1] * w[0];
    const int64_t half = INT64_C(1) << 29;
    const int64_t x = z[0] + mirror[0] + ((im + half) >> 30);
    const int64_t y = z[1] - mirror[1] - ((re + half) >> 30);
    return (uint64_t)(x * x) + (uint64_t)(y * y);
}

static void add_up_bands(const od_audio_features_t *features, const int32_t *values,
                         uint64_t *bands) {
    const uint32_t pairs = features->fft_size / 2u;
    memset(bands, 0, features->mels * sizeof *bands);
    for (uint32_t i = 0; i < features->bins; i++) {
        const uint32_t band = features->bin_band[i];
        const uint32_t rising = features->bin_weight[i];
        const uint64_t found = power(values, pairs, features->twiddles, features->first_bin + i) >>
                               features->power_shift;
        if (band < features->mels) {
            bands[band] += found * rising;
        }
        if (band > 0) {
            bands[band - 1u] += found * (WEIGHT_ONE - rising);
        }
    }
}

int32_t od_log2_q9(uint64_t value, const uint16_t *log_table) {
    int32_t whole = 63;
    while ((value >> 63) == 0u) {
        value <<= 1;
        whole--;
    }
    const uint32_t fraction = (uint32_t)(value >> 32) & 0x7FFFFFFFu;
    const uint32_t place = fraction >> 25;
    const int32_t rest = (int32_t)((fraction >> 9) & 0xFFFFu);
    const int32_t low = log_table[place];
    const int32_t rise = (int32_t)log_table[place + 1u] - low;
    const int32_t found = low + ((rise * rest + (1 << 15)) >> 16);
    return whole * (1 << OD_AUDIO_LOG_FRACTION_BITS) + ((found + (1 << 5)) >> 6);
}

static void cosine_transform(const od_audio_features_t *features, const int16_t *logs,
                             int16_t *out) {
    const int shift = 15 + OD_AUDIO_LOG_FRACTION_BITS - OD_AUDIO_MFCC_FRACTION_BITS;
    for (uint32_t c = 0; c < features->coefficients; c++) {
        int64_t sum = INT64_C(1) << (shift - 1);
        for (uint32_t m = 0; m < features->mels; m++) {
            sum += (int64_t)features->dct[c * features->mels + m] * logs[m];
        }
        out[c] = (int16_t)(sum >> shift);
    }
}

int32_t od_audio_features(const od_audio_features_t *features, const int16_t *samples,
                          uint32_t count, void *scratch, uint32_t scratch_bytes, int16_t *out) {
    if (scratch_bytes < od_audio_scratch_bytes(features)) {
        return OD_ERROR_ARGUMENT;
    }
    uint64_t *bands = scratch;
    int32_t *values = (int32_t *)(bands + features->mels);
    const uint32_t frames = od_audio_frames(features, count);
    for (uint32_t frame = 0; frame < frames; frame++) {
        load_frame(features, samples + (size_t)frame * features->hop_samples, values);
        od_fft(values, features->fft_size / 2u, features->twiddles, 2u);
        add_up_bands(features, values, bands);
        int16_t *logs = features->dct == NULL ? out : (int16_t *)(void *)values;
        for (uint32_t m = 0; m < features->mels; m++) {
            logs[m] = (int16_t)od_log2_q9(bands[m] | 1u, features->log_table);
        }
        if (features->dct != NULL) {
            cosine_transform(features, logs, out);
            out += features->coefficients;
        } else {
            out += features->mels;
        }
    }
    return (int32_t)frames;
}
