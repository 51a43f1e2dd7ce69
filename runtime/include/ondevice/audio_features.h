/* Log-mel spectra and MFCC of sound in integers: the same on every CPU (docs/features.md). */
#ifndef ONDEVICE_AUDIO_FEATURES_H
#define ONDEVICE_AUDIO_FEATURES_H

#include <stdint.h>

#define OD_AUDIO_LOG_FRACTION_BITS 9  /* of a log-mel band, which is a logarithm to base 2 */
#define OD_AUDIO_MFCC_FRACTION_BITS 5 /* of a coefficient */

/* Sizes and tables, made by tools/ondevice/features/tables.py. */
typedef struct {
    uint16_t frame_samples; /* at most fft_size */
    uint16_t hop_samples;
    uint16_t fft_size; /* a power of two, 16 to 4096 */
    uint16_t mels;
    uint16_t coefficients; /* of MFCC; 0: the log-mel bands themselves */
    uint16_t first_bin;    /* of the spectrum, that any band reads */
    uint16_t bins;
    uint16_t power_shift;       /* so that a band's sum fits 64 bits */
    const int16_t *window;      /* [frame_samples], Q15 */
    const int32_t *twiddles;    /* [fft_size / 2][cos, -sin] of 2 pi k / fft_size, Q30 */
    const uint8_t *bin_band;    /* [bins]: the band whose rising edge a bin lies on; mels: beyond */
    const uint16_t *bin_weight; /* [bins]: on that edge, Q12; the band before has the rest */
    const uint16_t *log_table;  /* [65]: log2(1 + i / 64), Q15 */
    const int16_t *dct;         /* [coefficients][mels], Q15; NULL for log-mel */
} od_audio_features_t;

/* Frames of so many samples; 0 where there are fewer than one frame has. */
uint32_t od_audio_frames(const od_audio_features_t *features, uint32_t samples);

/* Bytes of scratch memory, to be aligned to 8. */
uint32_t od_audio_scratch_bytes(const od_audio_features_t *features);

/* Computes [frames][bands]. Returns the number of frames, or OD_ERROR_ARGUMENT where the scratch
 * memory is too small. */
int32_t od_audio_features(const od_audio_features_t *features, const int16_t *samples,
                          uint32_t count, void *scratch, uint32_t scratch_bytes, int16_t *out);

/* In place: the discrete Fourier transform of `size` complex numbers [re, im], `size` a power of
 * two; `twiddles` are those of `stride * size` points. Unscaled: values grow by `size`. */
void od_fft(int32_t *values, uint32_t size, const int32_t *twiddles, uint32_t stride);

/* log2(value) with 9 bits of fraction, of a value of at least 1. */
int32_t od_log2_q9(uint64_t value, const uint16_t *log_table);

#endif
