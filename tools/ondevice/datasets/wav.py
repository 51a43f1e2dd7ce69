"""Folders of sound: DIR/LABEL/*.wav and the like."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.config import Config
from ondevice.data import DataError
from ondevice.datasets.folder import labelled_files
from ondevice.datasets.resample import resample
from ondevice.recordings import Recording, Recordings

SUFFIXES = (".wav", ".flac", ".ogg")
CHANNELS = ("sound",)


def read_wav_folder(path: Path, config: Config) -> Recordings:
    """Reads sound as float32 [time, 1], -1 to 1, at the rate of the settings.

    Several channels are averaged; a clip that is shorter than a window is filled up with silence.

    Raises:
        DataError: A file cannot be read, or the extra is not installed.
    """
    rate_hz, window = config.audio.rate_hz, config.window.samples
    if window is None:
        raise DataError(
            f"{path}: sound is cut into windows: set window.samples, as {rate_hz} for a second"
        )
    recordings = []
    for item in labelled_files(path, SUFFIXES):
        values = load_sound(item.path, rate_hz)
        if len(values) < window:
            values = np.concatenate([values, np.zeros(window - len(values), np.float32)])
        recordings.append(Recording(values[:, None], item.label, str(item.path), item.held_out))
    return Recordings(tuple(recordings), CHANNELS, float(rate_hz), str(path))


def load_sound(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """Reads one file as [time], at a rate.

    Raises:
        DataError: It cannot be read, is empty, or holds numbers that are not finite.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: its library is missing
        raise DataError(
            f"{path}: reading sound needs soundfile: pip install 'ondevice-training[audio]'"
        ) from error
    try:
        values, found_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable sound file: {error}") from error
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"{path}: no sound in it, or values that are not finite")
    mono = values[:, 0] if values.shape[1] == 1 else values.mean(axis=1)
    return resample(np.ascontiguousarray(mono, np.float32), int(found_hz), rate_hz)
