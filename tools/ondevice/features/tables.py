"""The integer tables of log-mel and MFCC: one source for NumPy and C."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.input_settings import AudioSettings

WEIGHT_ONE = 4096
LOG_FRACTION_BITS = 9
MFCC_FRACTION_BITS = 5


@dataclass(frozen=True)
class FeatureTables:
    """`od_audio_features_t`: see runtime/include/ondevice/audio_features.h.

    Attributes:
        window: int16 [frame_samples], Q15.
        twiddles: int32 [fft_size / 2, 2], Q30.
        first_bin: Of the spectrum that any band reads.
        bin_band: uint8 [bins].
        bin_weight: uint16 [bins], Q12.
        log_table: uint16 [65], Q15.
        dct: int16 [coefficients, mels], Q15; None for log-mel.
        power_shift: So that a band's sum fits 64 bits.
    """

    window: NDArray[np.int16]
    twiddles: NDArray[np.int32]
    first_bin: int
    bin_band: NDArray[np.uint8]
    bin_weight: NDArray[np.uint16]
    log_table: NDArray[np.uint16]
    dct: NDArray[np.int16] | None
    power_shift: int


def feature_tables(audio: AudioSettings) -> FeatureTables:
    """Makes the tables.

    Raises:
        UserError: The settings contradict each other.
    """
    check_audio(audio)
    size = audio.fft_size
    phase = 2 * np.pi * np.arange(audio.frame_samples) / audio.frame_samples
    window = np.rint(32767 * (0.5 - 0.5 * np.cos(phase))).astype(np.int16)
    angle = 2 * np.pi * np.arange(size // 2) / size
    turns = np.stack([np.cos(angle), -np.sin(angle)], axis=1)
    twiddles = np.rint(turns * 2**30).astype(np.int32)
    first_bin, bin_band, bin_weight = _bands(audio)
    logs = np.rint(32768 * np.log2(1 + np.arange(65) / 64)).astype(np.uint16)
    return FeatureTables(
        window,
        twiddles,
        first_bin,
        bin_band,
        bin_weight,
        logs,
        _dct(audio) if audio.features == "mfcc" else None,
        max(0, 2 * (size.bit_length() - 1) - 19),
    )


def check_audio(audio: AudioSettings) -> None:
    """Checks settings of features against each other.

    Raises:
        UserError: They contradict each other.
    """
    size = audio.fft_size
    if size & (size - 1):
        raise UserError(f"audio.fft_size = {size}; allowed: a power of two, 16 to 4096")
    if audio.frame_samples > size:
        raise UserError(
            f"audio.frame_samples = {audio.frame_samples} is longer than audio.fft_size = {size}; "
            "raise that to the next power of two"
        )
    if not audio.low_hz < audio.high_hz < audio.rate_hz / 2:
        raise UserError(
            f"audio.low_hz = {audio.low_hz:g}, high_hz = {audio.high_hz:g}; allowed: low_hz below "
            f"high_hz, and that below half of rate_hz, {audio.rate_hz / 2:g}"
        )
    if audio.features == "mfcc" and audio.coefficients > audio.mels:
        raise UserError(
            f"audio.coefficients = {audio.coefficients}; allowed: at most audio.mels = {audio.mels}"
        )


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """HTK's mel scale (Young et al., The HTK Book)."""
    return np.asarray(2595 * np.log10(1 + hz / 700))


def _bands(audio: AudioSettings) -> tuple[int, NDArray[np.uint8], NDArray[np.uint16]]:
    """Triangles with peak 1 whose corners are the centres of their neighbours.

    A bin between two corners belongs to both of their bands: with a weight to the one that rises
    there, with the rest to the one that falls.
    """
    low, high = _mel(np.array([audio.low_hz, audio.high_hz]))
    corners = np.linspace(low, high, audio.mels + 2)
    hz = np.arange(audio.fft_size // 2) * audio.rate_hz / audio.fft_size
    inside = np.flatnonzero((hz >= audio.low_hz) & (hz <= audio.high_hz))
    place = _mel(hz[inside])
    band = np.clip(np.searchsorted(corners, place, side="right") - 1, 0, audio.mels)
    share = (place - corners[band]) / (corners[band + 1] - corners[band])
    weight = np.rint(WEIGHT_ONE * share).clip(0, WEIGHT_ONE)
    first = int(inside[0]) if len(inside) else 0
    return first, band.astype(np.uint8), weight.astype(np.uint16)


def _dct(audio: AudioSettings) -> NDArray[np.int16]:
    """Orthonormal DCT-II."""
    m, c = np.arange(audio.mels), np.arange(audio.coefficients)
    table = np.cos(np.pi * c[:, None] * (2 * m + 1) / (2 * audio.mels)) * np.sqrt(2 / audio.mels)
    table[0] /= np.sqrt(2)
    return np.asarray(np.rint(table * 32767), np.int16)


def c_tables(audio: AudioSettings, name: str = "audio_features") -> str:
    """Prints the tables as C, with an `od_audio_features_t` of that name."""
    tables = feature_tables(audio)
    arrays: dict[str, tuple[str, NDArray[np.integer[Any]]]] = {
        "window": ("int16_t", tables.window),
        "twiddles": ("int32_t", tables.twiddles),
        "bin_band": ("uint8_t", tables.bin_band),
        "bin_weight": ("uint16_t", tables.bin_weight),
        "log_table": ("uint16_t", tables.log_table),
    }
    if tables.dct is not None:
        arrays["dct"] = ("int16_t", tables.dct)
    lines = ['#include "ondevice/audio_features.h"', ""]
    for key, (kind, values) in arrays.items():
        flat = [str(value) for value in values.reshape(-1).tolist()]
        rows = [", ".join(flat[i : i + 12]) for i in range(0, len(flat), 12)]
        body = ",\n    ".join(rows)
        lines.append(f"static const {kind} {name}_{key}[{len(flat)}] = {{\n    {body}}};")
    numbers = {
        "frame_samples": audio.frame_samples,
        "hop_samples": audio.hop_samples,
        "fft_size": audio.fft_size,
        "mels": audio.mels,
        "coefficients": audio.coefficients if tables.dct is not None else 0,
        "first_bin": tables.first_bin,
        "bins": len(tables.bin_band),
        "power_shift": tables.power_shift,
    }
    members = [f"    .{key} = {value}," for key, value in numbers.items()]
    members += [f"    .{key} = {name}_{key}," for key in arrays]
    lines += ["", f"const od_audio_features_t {name} = {{", *members, "};", ""]
    return "\n".join(lines)
