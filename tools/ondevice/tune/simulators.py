"""Measures in QEMU on this machine: several at a time, on the smallest board that holds a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ondevice.boards import Board, load_board
from ondevice.errors import UserError
from ondevice.measure.bench import Bench, Measurement
from ondevice.measure.task import KernelSource, Task

EXACT, LARGE = "qemu_f405", "qemu_mps2_an386"  # Both Cortex-M4; the large one counts in 40s.


class Simulators:
    """Two simulated Cortex-M4.

    Args:
        jobs: Compilers or simulators at a time.
    """

    machine, unit = "cortex-m4", "instructions"

    def __init__(self, jobs: int) -> None:
        self._stack = ExitStack()
        self._jobs = jobs
        self._benches: dict[str, Bench] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def measure_all(
        self, pairs: Sequence[tuple[Task, KernelSource]]
    ) -> Iterator[Measurement | UserError]:
        """Measures all, several at a time; in order. All are of one task."""
        if pairs:
            yield from self._bench(len(pairs[0][0].arena())).measure_all(pairs)

    def measure_source(self, source: str, operands: bytes, arena_bytes: int) -> Measurement:
        """Measures one; see `Bench.measure_source`."""
        return self._bench(arena_bytes).measure_source(source, operands)

    def _bench(self, arena_bytes: int) -> Bench:
        exact = load_board(EXACT)
        name = EXACT if arena_bytes <= _room(exact) else LARGE
        if name not in self._benches:
            opened = Bench(load_board(name), self._jobs)
            self._benches[name] = self._stack.enter_context(opened)
        return self._benches[name]


def _room(board: Board) -> int:
    return board.ram_bytes - board.stack_bytes - 1024  # of the harness
