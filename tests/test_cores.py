"""Every int8 kernel gives the same integers on every core: DSP, MVE and portable forms."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from kernel_cases import checksum, kernel_cases, one_task
from native_kernels import Outcome, run_cases
from ondevice.boards import Board, list_boards, load_board
from ondevice.measure.bench import Bench
from ondevice.measure.task import KernelSource, Task, lowered_kernel
from ondevice_compiler.lower import lower
from ondevice_compiler.tiling.database import measured_tile
from ondevice_compiler.tiling.simd import for_simd

CORES = {
    board.cpu: board
    for board in map(load_board, list_boards())
    if board.run == "qemu" and board.name not in ("qemu_mps2_an386", "qemu_microbit")
}
# An M4 runs the instructions of an M0 too, and has the memory for all of it.
PORTABLE = replace(load_board("qemu_f405"), cpu="cortex-m0", fpu="")


@cache
def on_this_computer() -> dict[str, Outcome]:
    """What the portable forms give, compiled by the host's gcc."""
    cases = kernel_cases()
    return dict(zip(cases, run_cases(list(cases.values())), strict=True))


@cache
def lowered(names: tuple[str, ...], simd: str) -> tuple[Task, KernelSource]:
    """Some of the cases as one task, and its kernels for a kind of CPU."""
    cases = kernel_cases()
    task = one_task({name: cases[name] for name in names})
    tiles = for_simd(simd, measured_tile)
    return task, lowered_kernel(task, lower(task.program, tiles=tiles))


def differing(board: Board, names: tuple[str, ...]) -> tuple[str, ...]:
    """The cases whose checksum on the board is not this computer's, by halves."""
    task, kernels = lowered(names, board.simd)
    with Bench(board) as bench:
        found = bench.measure(task, kernels).checksum
    if found == checksum(task, {name: on_this_computer()[name] for name in names}):
        return ()
    half = len(names) // 2
    if half == 0:
        return names
    return differing(board, names[:half]) + differing(board, names[half:])


@pytest.mark.parametrize("board", [*CORES.values(), PORTABLE], ids=[*CORES, "cortex-m0"])
def test_every_kernel_gives_the_integers_of_the_portable_form(board: Board) -> None:
    assert differing(board, tuple(kernel_cases())) == ()
