"""A live source whose samples and times a test has written down."""

from collections.abc import Iterable, Iterator

import numpy as np

from ondevice.live.source import Chunk, EndOfSourceError


class ScriptedSource:
    """Gives chunks one after the other; each `read` moves the virtual clock to its arrival.

    Args:
        chunks: In order; None: nothing comes within the timeout.
        channels: Names.
        rate_hz: As the source promises it.
    """

    def __init__(
        self,
        chunks: Iterable[Chunk | None],
        channels: tuple[str, ...] = ("ax", "ay"),
        rate_hz: float | None = None,
    ) -> None:
        self.channels = channels
        self.rate_hz = rate_hz
        self.now_s = 0.0
        self.closed = False
        self._chunks: Iterator[Chunk | None] = iter(chunks)

    def read(self, timeout_s: float) -> Chunk | None:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            raise EndOfSourceError from None
        self.now_s = chunk.t_s if chunk is not None else self.now_s + timeout_s
        return chunk

    def close(self) -> None:
        self.closed = True

    def clock(self) -> float:
        return self.now_s


def steady(
    rate_hz: float, seconds: float, columns: int = 2, device_clock: bool = False
) -> list[Chunk]:
    """A sample a chunk; column k of sample i is i + 1000 k."""
    out = []
    for index in range(round(rate_hz * seconds)):
        values = (index + 1000 * np.arange(columns, dtype=np.float32))[np.newaxis]
        t_s = (index + 1) / rate_hz
        device_t_s = np.array([5 + t_s]) if device_clock else None
        out.append(Chunk(values, t_s, device_t_s))
    return out
