"""The device's log-mel and MFCC in NumPy, bit for bit, over many frames at once."""

import numpy as np
from numpy.typing import NDArray

from ondevice.features.tables import (
    LOG_FRACTION_BITS,
    MFCC_FRACTION_BITS,
    WEIGHT_ONE,
    FeatureTables,
)
from ondevice.input_settings import AudioSettings

Integers = NDArray[np.int64]
_HALF = 1 << 29


def integer_features(
    audio: AudioSettings, tables: FeatureTables, samples: NDArray[np.int16]
) -> NDArray[np.int16]:
    """What `od_audio_features` gives.

    Args:
        audio: Sizes.
        tables: Of these settings.
        samples: int16 [n, samples], each at least a frame long.

    Returns:
        int16 [n, frames, bands].
    """
    starts = np.arange(0, samples.shape[1] - audio.frame_samples + 1, audio.hop_samples)
    places = starts[:, None] + np.arange(audio.frame_samples)
    framed = samples[:, places].astype(np.int64).reshape(-1, audio.frame_samples)
    windowed = (framed * tables.window + (1 << 14)) >> 15
    padded = np.zeros((len(windowed), audio.fft_size), np.int64)
    padded[:, : audio.frame_samples] = windowed
    powers = _powers(padded[:, ::2], padded[:, 1::2], tables)
    bands = _bands(powers >> np.uint64(tables.power_shift), tables, audio.mels)
    logs = log2_q9(bands | np.uint64(1), tables.log_table)
    if tables.dct is not None:
        shift = 15 + LOG_FRACTION_BITS - MFCC_FRACTION_BITS
        logs = (logs @ tables.dct.astype(np.int64).T + (1 << (shift - 1))) >> shift
    return logs.astype(np.int16).reshape(len(samples), len(starts), -1)


def _powers(re: Integers, im: Integers, tables: FeatureTables) -> NDArray[np.uint64]:
    """Power of twice the spectrum at the bins that bands read, from pairs of real samples."""
    size = re.shape[1]
    re, im = fft(re, im, tables.twiddles, 2)
    k = tables.first_bin + np.arange(len(tables.bin_band))
    mirror = (size - k) % size
    cos, sin = tables.twiddles[k].astype(np.int64).T
    odd_re, odd_im = re[:, k] - re[:, mirror], im[:, k] + im[:, mirror]
    turned_re = (odd_re * cos - odd_im * sin + _HALF) >> 30
    turned_im = (odd_re * sin + odd_im * cos + _HALF) >> 30
    x = re[:, k] + re[:, mirror] + turned_im
    y = im[:, k] - im[:, mirror] - turned_re
    return np.asarray(x * x + y * y, np.uint64)


def fft(
    re: Integers, im: Integers, twiddles: NDArray[np.int32], stride: int
) -> tuple[Integers, Integers]:
    """The transform `od_fft`, of each row."""
    size = re.shape[1]
    bits = size.bit_length() - 1
    order = [int(f"{i:0{bits}b}"[::-1], 2) if bits else 0 for i in range(size)]
    re, im = re[:, order].copy(), im[:, order].copy()
    half = 1
    while half < size:
        step = stride * (size // (2 * half))
        cos, sin = twiddles[: half * step : step].astype(np.int64).T
        shaped_re, shaped_im = (part.reshape(len(part), -1, 2 * half) for part in (re, im))
        a_re, b_re = shaped_re[:, :, :half].copy(), shaped_re[:, :, half:].copy()
        a_im, b_im = shaped_im[:, :, :half].copy(), shaped_im[:, :, half:].copy()
        turned_re = (b_re * cos - b_im * sin + _HALF) >> 30
        turned_im = (b_re * sin + b_im * cos + _HALF) >> 30
        shaped_re[:, :, :half], shaped_re[:, :, half:] = a_re + turned_re, a_re - turned_re
        shaped_im[:, :, :half], shaped_im[:, :, half:] = a_im + turned_im, a_im - turned_im
        half *= 2
    return re, im


def _bands(powers: NDArray[np.uint64], tables: FeatureTables, mels: int) -> NDArray[np.uint64]:
    bands = np.zeros((len(powers), mels), np.uint64)
    for index, (band, rising) in enumerate(zip(tables.bin_band, tables.bin_weight, strict=True)):
        if band < mels:
            bands[:, band] += powers[:, index] * np.uint64(rising)
        if band > 0:
            bands[:, band - 1] += powers[:, index] * np.uint64(WEIGHT_ONE - int(rising))
    return bands


def log2_q9(values: NDArray[np.uint64], log_table: NDArray[np.uint16]) -> Integers:
    """log2 with 9 bits of fraction, of values of at least 1."""
    whole = np.full(values.shape, 63, np.int64)
    shifted = values.copy()
    for step in (32, 16, 8, 4, 2, 1):
        short = (shifted >> np.uint64(64 - step)) == 0
        shifted = np.where(short, shifted << np.uint64(step), shifted)
        whole -= np.where(short, step, 0)
    fraction = ((shifted >> np.uint64(32)) & np.uint64(0x7FFFFFFF)).astype(np.int64)
    place, rest = fraction >> 25, (fraction >> 9) & 0xFFFF
    table = log_table.astype(np.int64)
    low = table[place]
    found = low + (((table[place + 1] - low) * rest + (1 << 15)) >> 16)
    return np.asarray(whole * (1 << LOG_FRACTION_BITS) + ((found + (1 << 5)) >> 6))
