"""Features of cut sound, in real units."""

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.features.integer_log_mel import integer_features
from ondevice.features.tables import LOG_FRACTION_BITS, MFCC_FRACTION_BITS, feature_tables
from ondevice.input_settings import AudioSettings

AT_ONCE = 64  # windows; more take memory, not less time


def feature_shape(audio: AudioSettings, window_samples: int) -> tuple[int, int]:
    """Returns frames and bands of a window.

    Raises:
        UserError: It is shorter than a frame.
    """
    if window_samples < audio.frame_samples:
        raise UserError(
            f"window.samples = {window_samples} is shorter than audio.frame_samples = "
            f"{audio.frame_samples}"
        )
    frames = 1 + (window_samples - audio.frame_samples) // audio.hop_samples
    return frames, audio.coefficients if audio.features == "mfcc" else audio.mels


def compute(audio: AudioSettings, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Computes the features of sound.

    Args:
        audio: Settings.
        windows: [n, samples, 1], -1 to 1: int16 sound divided by 32768.

    Returns:
        float32 [n, frames, bands, 1]: log2 of each band's power (of int16 samples), or MFCC of it.

    Raises:
        UserError: The settings contradict each other or the window.
    """
    frames, bands = feature_shape(audio, windows.shape[1])
    tables = feature_tables(audio)
    if windows.shape[2] != 1:
        raise UserError(f"features of sound need one channel; there are {windows.shape[2]}")
    samples = np.clip(np.rint(windows[:, :, 0] * 32768.0), -32768, 32767).astype(np.int16)
    found = np.empty((len(samples), frames, bands, 1), np.float32)
    bits = MFCC_FRACTION_BITS if audio.features == "mfcc" else LOG_FRACTION_BITS
    for start in range(0, len(samples), AT_ONCE):
        part = integer_features(audio, tables, samples[start : start + AT_ONCE])
        found[start : start + AT_ONCE, :, :, 0] = part / np.float32(1 << bits)
    return found
