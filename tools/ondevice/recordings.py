"""Labelled recordings of sensors: what is cut into samples (see `preprocessing`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recording:
    """A stretch of one sensor's samples under one label.

    Attributes:
        values: float32 [time, channels].
        label: Class index, or float32 [targets].
        origin: File (and row) for messages.
        held_out: True: to measure with; False: to train on; None: nobody said.
    """

    values: NDArray[np.float32]
    label: Any
    origin: str
    held_out: bool | None = None


@dataclass(frozen=True)
class Recordings:
    """All of a data set, as read.

    Attributes:
        recordings: In a stable order.
        class_names: One a class; empty for targets.
        channels: Names of the channels, in order.
        rate_hz: Samples a second; None where nobody said.
        source: File or folder name for messages.
    """

    recordings: tuple[Recording, ...]
    class_names: tuple[str, ...]
    channels: tuple[str, ...]
    rate_hz: float | None
    source: str
