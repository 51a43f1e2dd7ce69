"""The interface of a live source, whatever is behind it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Chunk:
    """Samples that arrived together.

    Attributes:
        values: float32 [n, channels]; of a camera, [1, height, width, colours] with 0 to 1.
        t_s: Monotonic time of the host when the last of them had arrived.
        device_t_s: float64 [n] seconds of the device's own clock, where it sends them.
    """

    values: NDArray[np.float32]
    t_s: float
    device_t_s: NDArray[np.float64] | None = None


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


@runtime_checkable
class NotedSource(Protocol):
    """A source that has to say something of what has come, e.g. lines that it could not read."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences, none where all is well."""


def notes_of(source: LiveSource) -> tuple[str, ...]:
    """Returns what a source has to say."""
    return source.notes if isinstance(source, NotedSource) else ()
