"""The interface of a live source, whatever is behind it."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Chunk:
    """Samples that arrived together.

    Attributes:
        values: float32 [n, channels]; of a camera, [1, height, width, colours] with 0 to 1.
        t_s: Monotonic time of the host when the last of them had arrived.
    """

    values: NDArray[np.float32]
    t_s: float


class LiveSource(Protocol):
    """A sensor that goes on giving samples."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order."""

    @property
    def rate_hz(self) -> float | None:
        """Samples a second as the device promises them; None: to be measured."""

    def read(self, timeout_s: float) -> Chunk | None:
        """Waits for the next samples.

        Returns:
            At least one sample, or None where none came in time.

        Raises:
            EndOfSourceError: There will be no more.
            UserError: The device failed.
        """

    def close(self) -> None:
        """Gives the device back; may be called twice."""


class EndOfSourceError(Exception):
    """The source is at its end, which is no fault."""
