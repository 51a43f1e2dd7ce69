"""Measures on a real board: each kernel is flashed, then asked for over the serial port.

Built and tested without a board; not run on silicon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from ondevice.boards import Board
from ondevice.errors import UserError
from ondevice.measure.bench import Bench, Measurement
from ondevice.measure.task import KernelSource, Task


class RealBoard:
    """One board behind a port.

    Args:
        board: A real one.
        port: Its serial port.
    """

    unit = "cycles"

    def __init__(self, board: Board, port: str) -> None:
        self.machine = board.name
        self._bench = Bench(board, 1, port)

    def __enter__(self) -> Self:
        self._bench.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bench.__exit__(kind, error, trace)

    def measure_all(
        self, pairs: Sequence[tuple[Task, KernelSource]]
    ) -> Iterator[Measurement | UserError]:
        """Measures one after another."""
        yield from self._bench.measure_all(pairs)
