"""Smartwatch recordings of ten people, split so that adapting to a new wearer is measured fairly.

The data are `seglearn.datasets.load_watch` of seglearn 1.2.5: accelerometer and gyroscope at 50 Hz
while each person does seven shoulder exercises, once with each arm (D. Burns et al., "Shoulder
physiotherapy exercise recognition", Physiological Measurement 39, 2018, arXiv:1802.01489).

Two rules keep what is measured apart from what is learned. The model is pretrained on five people
and adapted to the other five. Of an unseen wearer's recordings the first 30 % are for adapting and
the rest, after a gap of one window, for testing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice_compiler.atomic_file import write_bytes_atomically

PRETRAINING_PEOPLE = (1, 2, 3, 4, 5)
UNSEEN_PEOPLE = (6, 7, 8, 9, 10)
FEDERATED_PEOPLE = (*UNSEEN_PEOPLE, 3, 4, 5)
# The first, fixed before anything was measured. It turned out the easiest of the five: with the
# watch rotated, a full update takes it from .32 to .97 and all five on average from .30 to .91.
DEFAULT_PERSON = UNSEEN_PEOPLE[0]

CLASS_NAMES = (
    "pendulum",
    "abduction",
    "forward elevation",
    "internal rotation",
    "external rotation",
    "trapezius extension",
    "upright row",
)
WINDOW_SAMPLES = 100  # two seconds
GAP_SAMPLES = WINDOW_SAMPLES
ADAPTATION_SHARE = 0.3
OVERLAPPING_STRIDE = WINDOW_SAMPLES // 2

# Turned by 180 degrees about the normal of its face, the watch sees x and y of the accelerometer
# and of the gyroscope with the opposite sign.
ROTATION_SIGNS = np.array([-1, -1, 1, -1, -1, 1], np.float64)


@dataclass(frozen=True)
class Recording:
    """One person doing one exercise.

    Attributes:
        person: 1 to 10.
        exercise: Index of `CLASS_NAMES`.
        samples: float64 [n, 6]: acceleration x, y, z, then angular rate x, y, z.
    """

    person: int
    exercise: int
    samples: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WatchSplit(Mapping[str, NDArray[Any]]):
    """Windows of one unseen wearer; as a mapping, the arrays of a data file by their keys.

    Attributes:
        adapt_x: float32 [n, 6, 100], normalised.
        adapt_y: int64 [n].
        test_x: float32 [m, 6, 100], later in the same recordings.
        test_y: int64 [m].
        class_names: One a class.
    """

    adapt_x: NDArray[np.float32]
    adapt_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __getitem__(self, key: str) -> NDArray[Any]:
        return np.asarray(getattr(self, _ATTRIBUTES[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(_ATTRIBUTES)

    def __len__(self) -> int:
        return len(_ATTRIBUTES)


_ATTRIBUTES = {
    "x": "adapt_x",
    "y": "adapt_y",
    "x_test": "test_x",
    "y_test": "test_y",
    "class_names": "class_names",
}


def wearer_split(person: int = DEFAULT_PERSON, rotated: bool = True) -> WatchSplit:
    """Returns the windows of an unseen wearer to adapt to and to test on.

    Args:
        person: One of `UNSEEN_PEOPLE`.
        rotated: Whether the watch is worn the other way round, as it never was in pretraining.

    Raises:
        UserError: The person is not an unseen one, or seglearn is not installed.
    """
    if person not in UNSEEN_PEOPLE:
        raise UserError(
            f"person {person}: not an unseen wearer of the demo; "
            f"choose one of {', '.join(map(str, UNSEEN_PEOPLE))}"
        )
    return _split_in_time(person, rotated)


def federated_wearers() -> dict[int, WatchSplit]:
    """Returns the windows of the eight people of the federation, by person, the watch turned.

    Nobody wore it so in pretraining, in which `FEDERATED_PEOPLE` up to 5 took part otherwise.
    """
    return {person: _split_in_time(person, rotated=True) for person in FEDERATED_PEOPLE}


def _split_in_time(person: int, rotated: bool) -> WatchSplit:
    """The first part of each recording to adapt to, the rest, after a gap, to test on."""
    adaptation: list[Recording] = []
    test: list[Recording] = []
    for recording in _recordings((person,)):
        samples = recording.samples * ROTATION_SIGNS if rotated else recording.samples
        end = int(ADAPTATION_SHARE * len(samples))
        adaptation.append(Recording(person, recording.exercise, samples[:end]))
        test.append(Recording(person, recording.exercise, samples[end + GAP_SAMPLES :]))
    return WatchSplit(
        *_windows(adaptation, OVERLAPPING_STRIDE),
        *_windows(test, WINDOW_SAMPLES),
        class_names=CLASS_NAMES,
    )


def pretraining_set() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns x [n, 6, 100] and labels [n] of the people that the model is pretrained on."""
    return _windows(_recordings(PRETRAINING_PEOPLE), OVERLAPPING_STRIDE)


def calibration_set() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns x [64, 6, 100] and labels [64]: windows evenly spread over the pretraining set."""
    x, y = pretraining_set()
    chosen = np.linspace(0, len(x) - 1, 64).astype(int)
    return x[chosen], y[chosen]


def write_npz(path: Path, split: WatchSplit) -> None:
    """Writes a data file for `ondevice train --data` (keys x, y, x_test, y_test, class_names)."""
    content = BytesIO()
    np.savez(content, allow_pickle=False, **split)
    write_bytes_atomically(path, content.getvalue())


def _windows(
    recordings: list[Recording], stride: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cuts recordings into normalised windows x [n, 6, 100] with labels [n]."""
    x = []
    y = []
    for recording in recordings:
        samples = recording.samples / axis_rms()
        for start in range(0, len(samples) - WINDOW_SAMPLES + 1, stride):
            x.append(samples[start : start + WINDOW_SAMPLES].T)
            y.append(recording.exercise)
    return np.array(x, np.float32), np.array(y, np.int64)


@cache
def axis_rms() -> NDArray[np.float64]:
    """Returns the root mean square of each axis [6] over the pretraining people.

    Samples are divided by it. No mean is subtracted, so that turning the watch stays a change of
    sign and leaves the range that the model was calibrated for.
    """
    samples = np.concatenate([r.samples for r in _recordings(PRETRAINING_PEOPLE)])
    return np.asarray(np.sqrt(np.mean(samples**2, axis=0)))


def _recordings(people: tuple[int, ...]) -> list[Recording]:
    """Returns the recordings of some people."""
    return [recording for recording in _all_recordings() if recording.person in people]


@cache
def _all_recordings() -> tuple[Recording, ...]:
    """Reads the file in seglearn without importing it: that would need pandas and scikit-learn."""
    package = find_spec("seglearn")
    if package is None or package.origin is None:
        raise UserError(
            "the demo's data are in the package seglearn, which is not installed: "
            "run `pip install seglearn==1.2.5`, or give data of your own with --data FILE.npz"
        )
    file = Path(package.origin).parent / "data" / "watch_dataset.npy"
    data = np.load(file, allow_pickle=True).item()
    return tuple(
        Recording(int(person), int(exercise), np.asarray(samples, np.float64))
        for person, exercise, samples in zip(data["subject"], data["y"], data["X"], strict=True)
    )
