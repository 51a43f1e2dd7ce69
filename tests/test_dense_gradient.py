"""int8 input gradients of dense convolutions as register tiles, and how they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layers import bias_update, input_gradient

from device_kernels import (
    assert_plain_loops_write_the_same,
    trained,
    with_and_without_vectors,
)
from native_kernels import Case, make_step, one_step
from ondevice.boards import load_board
from ondevice.measure.bench import Bench
from ondevice.measure.task import Task
from ondevice_compiler.program import Part, Quantization, Tensor
from ondevice_compiler.tiling.covering import column_blocks
from ondevice_compiler.tiling.taps import Axis
from ondevice_compiler.tiling.tile import LARGEST_PIXELS, Workload, candidates, default_tile
from test_integer_kernels import FEW, Draw, Geometry, batch, case, check, gradient, masked, scales


def weights_of(draw: Draw, shape: tuple[int, ...]) -> list[Tensor]:
    """Frozen, trained, or trained in a range of input channels."""
    quantization = Quantization(tuple(draw(scales) for _ in range(shape[0])))
    how = draw(st.sampled_from(["int8", "int8", "int16", "range"]))
    if how != "range" or shape[3] < 2:
        dtype = "int16" if how == "int16" else "int8"
        return [Tensor("w", shape, dtype, "parameter", quantization, dtype == "int16")]
    first = draw(st.integers(0, shape[3] - 1))
    last = draw(st.integers(first, shape[3] - 1 - (first == 0)))
    trained = tuple(range(first, last + 1))
    frozen = tuple(c for c in range(shape[3]) if c not in trained)
    return [
        Tensor(
            name, (*shape[:3], len(channels)), dtype, "parameter", quantization,
            dtype == "int16", Part(3, channels, shape[3]),
        )
        for name, channels, dtype in (("w", trained, "int16"), ("w.frozen", frozen, "int8"))
    ]  # fmt: skip


@st.composite
def input_gradients(draw: Draw) -> Case:
    geometry = Geometry(draw)
    inputs, outputs = draw(st.integers(1, 13)), draw(st.integers(1, 19))
    weights = weights_of(draw, (outputs, *geometry.kernel, inputs))
    shape = geometry.source(inputs)
    g, out = gradient(draw, "g", geometry.target(outputs)), gradient(draw, "out", shape)
    mask, how = masked(draw, shape)
    names = ["g", *(tensor.name for tensor in (*weights, *mask))]
    step = make_step("conv2d_dx", names, ["out"], groups=1, **geometry.attributes, **how)
    drawn = case(draw, one_step(step, [g, *weights, *mask, out]))
    apart = draw(st.integers(-12, 14))  # Mostly what leaves the sums within int8, or near it.
    return replace(drawn, exponents={"g": 0, "out": apart}) if draw(st.booleans()) else drawn


@FEW
@given(batch(input_gradients()))
def test_dense_input_gradients_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


@given(*(st.integers(1, high) for high in (9, 7, 5, 4)), st.integers(0, 4), st.integers(0, 6))
def test_the_blocks_of_a_row_are_its_columns_with_the_taps_of_each(
    size: int, kernel: int, stride: int, pixels: int, after: int, before: int
) -> None:
    before = min(before, kernel - 1)
    out = max(size + before + after - kernel, 0) // stride + 1
    found = []
    for block in column_blocks(Axis(out, size, kernel, stride, before, True), pixels):
        assert block.width <= max(LARGEST_PIXELS, stride)
        for turn in range(block.turns):
            columns = []
            for phase in block.phases:
                for p in range(phase.pixels):
                    column = block.first + turn * block.width + phase.first + p * stride
                    target = phase.target + turn * (block.width // stride) + p
                    taps = range(phase.taps)
                    columns.append(
                        (column, [(phase.kernel_column + t * stride, target - t) for t in taps])
                    )
            found += sorted(columns)
    pairs = [(o, i, o * stride + i - before) for o in range(out) for i in range(kernel)]
    expected = [(c, sorted((i, o) for o, i, at in pairs if at == c)) for c in range(size)]
    assert found == expected


def test_every_tile_of_rows_that_is_tried_keeps_to_the_memory_plan() -> None:
    for pixels, steps in ((1, 0), (7, 6), (144, 48)):
        workload = Workload("rows", {"pixels": pixels, "steps": steps, "taps": 1})
        tiles = candidates(workload)
        assert default_tile(workload) in tiles
        assert all(tile.pixels <= LARGEST_PIXELS for tile in tiles)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(load_board("qemu_f405")) as opened:
        yield opened


def shifted(task: Task, exponent: int) -> Task:
    """The same gradient with another exponent: one that saturates, or is off the short way."""
    return replace(task, exponents={**task.exponents, "dx": exponent})


DEVICE_TASKS: dict[str, Callable[[], Task]] = {
    "1x1, 11 to 14 channels": lambda: input_gradient("dx", 5, 11, 14),
    "1x1 s2": lambda: input_gradient("dx", 6, 8, 12, 1, 2),
    "3x3": lambda: input_gradient("dx", 6, 8, 8, 3),
    "3x3 s2": lambda: input_gradient("dx", 7, 6, 9, 3, 2),
    "1x1, trained": lambda: trained(input_gradient("dx", 5, 11, 14)),
    "1x1, saturated": lambda: shifted(input_gradient("dx", 5, 12, 16), 0),
    "1x1, factors above 1/4": lambda: shifted(input_gradient("dx", 5, 12, 16), -12),
    "1x1, shifts above 62": lambda: shifted(input_gradient("dx", 5, 12, 16), 30),
}


@pytest.mark.parametrize("extreme", [-127, 127])
def test_a_bias_gradient_sums_more_pixels_than_an_int16_can_hold(
    bench: Bench, extreme: int
) -> None:
    task = bias_update("b", 23, 10, 10)  # 529 pixels
    g = np.full_like(task.values["g"], extreme)
    task = replace(task, values={**task.values, "g": g}, rate=1e-9)
    fast, slow = with_and_without_vectors(bench, task, "od_sum4")
    assert fast.count < slow.count


@pytest.mark.parametrize("name", DEVICE_TASKS)
def test_the_vector_instructions_give_the_integers_of_the_portable_form(
    bench: Bench, name: str
) -> None:
    task = DEVICE_TASKS[name]()
    fast, slow = with_and_without_vectors(bench, task, "od_rows2")
    assert fast.count < slow.count
    if not task.program.tensor("w").trainable:  # Plain loops know frozen weights only.
        assert_plain_loops_write_the_same(bench, task, fast)
