"""The demo: a smartwatch recognises exercises, and adapts on device to a wearer it never saw."""

from ondevice.demo.watch import (
    DEFAULT_PERSON,
    PRETRAINING_PEOPLE,
    UNSEEN_PEOPLE,
    WatchSplit,
    calibration_set,
    pretraining_set,
    wearer_split,
    write_npz,
)

__all__ = [
    "DEFAULT_PERSON",
    "PRETRAINING_PEOPLE",
    "UNSEEN_PEOPLE",
    "WatchSplit",
    "calibration_set",
    "pretraining_set",
    "wearer_split",
    "write_npz",
]
