"""Counting instructions of single kernels in QEMU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from layers import tasks
from naive import naive_kernel

from ondevice.boards import load_board
from ondevice.measure.bench import Bench
from ondevice.measure.execute import MeasureError
from ondevice.measure.task import KernelSource, Task, lowered_kernel
from ondevice_compiler.program import Program, Step, Tensor


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(load_board("qemu_f405")) as opened:
        yield opened


def _counting(turns: int) -> tuple[Task, KernelSource]:
    """A kernel that is known to retire 2 * turns + 2 instructions: its loop, load and return."""
    x = Tensor("x", (4,), "int8", "activation")
    program = Program("p", {"x": x}, (Step("s", "s", ("x",), ("x",)),), {}, "x", "x", "x", "mse")
    source = KernelSource(
        "__attribute__((naked, noinline)) static void loop(void) {\n"
        f'    __asm__ volatile("movw r0, #{turns}\\n1: subs r0, #1\\n bne 1b\\n bx lr");\n}}\n',
        "loop();",
    )
    return Task("loop", program, {"x": np.zeros(4, np.int8)}), source


def test_a_loop_of_n_turns_costs_exactly_two_instructions_a_turn(bench: Bench) -> None:
    few, many = bench.measure(*_counting(100)), bench.measure(*_counting(1100))
    assert many.count - few.count == 2000
    assert few.count - 202 in (0, 1, 2, 3)  # the call of od_measured around it
    assert few.checksum == many.checksum


@pytest.mark.parametrize("layer", ["1x1 8x8x48->192", "dw3x3 dX s2 24x24x48", "dw3x3 dW 24x24x48"])
def test_a_kernel_writes_the_bytes_that_plain_loops_write(bench: Bench, layer: str) -> None:
    task = tasks()[layer]()
    plain = naive_kernel(task)
    assert plain is not None
    ours, theirs = bench.measure(task, lowered_kernel(task)), bench.measure(task, plain)
    assert ours.checksum == theirs.checksum
    assert ours.code_bytes > 0
    weights = task.constants
    assert ours.const_bytes >= sum(tensor.size_bytes for tensor in weights)


def test_the_checksum_sees_a_single_wrong_byte(bench: Bench) -> None:
    task = tasks()["1x1 8x8x48->192"]()
    right = lowered_kernel(task)
    wrong = KernelSource(right.definitions, right.statement + " y[5] ^= 1;", right.tables)
    assert bench.measure(task, right).checksum != bench.measure(task, wrong).checksum


def test_a_kernel_that_does_not_compile_is_refused_in_one_line(bench: Bench) -> None:
    task, _ = _counting(1)
    with pytest.raises(MeasureError, match="expected"):
        bench.measure(task, KernelSource("int broken", "x"))


def test_a_board_without_a_counter_is_refused() -> None:
    with pytest.raises(MeasureError, match="no counter"):
        Bench(load_board("host"))


def test_a_coarse_counter_agrees_within_its_resolution(bench: Bench) -> None:
    with Bench(load_board("qemu_mps2_an386")) as large:
        coarse = large.measure(*_counting(5000)).count
    assert abs(coarse - bench.measure(*_counting(5000)).count) <= 2 * 40


def test_the_harness_builds_for_a_real_board_and_asks_for_its_port() -> None:
    with (
        Bench(load_board("nucleo_f446re")) as real,
        pytest.raises(MeasureError, match="--port"),
    ):
        real.measure(*_counting(5))
