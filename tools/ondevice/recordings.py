"""What a data set holds, as read: recordings of a sensor, or samples that stand for themselves."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recording:
    """A stretch of one sensor's samples under one label.

    Attributes:
        values: float32 [time, channels].
        label: Name of the class, its number, or float32 [targets].
        origin: File (and row) for messages.
        held_out: True: to measure with; False: to train on; None: nobody said.
    """

    values: NDArray[np.float32]
    label: Any
    origin: str
    held_out: bool | None = None


@dataclass(frozen=True)
class Recordings:
    """Labelled time series, which are cut into windows.

    Attributes:
        recordings: In a stable order.
        channels: Names of the channels, in order.
        rate_hz: Samples a second; None where nobody said.
        source: File or folder name for messages.
    """

    recordings: tuple[Recording, ...]
    channels: tuple[str, ...]
    rate_hz: float | None
    source: str


@dataclass(frozen=True)
class Samples:
    """Independent samples, as pictures or rows of a table.

    Attributes:
        values: float32 [n, ..., channels].
        labels: Of each: name of the class, its number, or float32 [targets].
        origins: Of each, for messages.
        held_out: Of each, whether it is to measure with; None: nobody said.
        channels: Names of the channels, in order.
        source: File or folder name for messages.
    """

    values: NDArray[np.float32]
    labels: tuple[Any, ...]
    origins: tuple[str, ...]
    held_out: tuple[bool, ...] | None
    channels: tuple[str, ...]
    source: str
