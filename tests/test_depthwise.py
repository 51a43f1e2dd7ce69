"""Depthwise convolutions and their gradients: vectors of channels, window phases, split weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layers import forward, input_gradient, weight_update

from device_kernels import (
    assert_plain_loops_write_the_same,
    trained,
    with_and_without_vectors,
)
from native_kernels import Case, make_step, one_step
from ondevice.boards import load_board
from ondevice.measure.bench import Bench
from ondevice.measure.task import Task
from ondevice_compiler.kernel_builder import TensorArgument
from ondevice_compiler.lower import lower
from ondevice_compiler.program import Part, Quantization, Tensor
from ondevice_compiler.tiling.taps import Axis, column_tiles
from ondevice_compiler.tiling.tile import Workload, candidates, default_tile
from test_integer_kernels import (
    FEW,
    Draw,
    Geometry,
    activation,
    batch,
    bounds,
    case,
    check,
    gradient,
    masked,
    scales,
    updated,
)


class Layer:
    """A random depthwise layer: its weight frozen, trained, or trained in part."""

    def __init__(self, draw: Draw) -> None:
        self.geometry = Geometry(draw)
        self.channels = draw(st.integers(1, 11))
        every = tuple(draw(scales) for _ in range(self.channels))
        trained = tuple(range(self.channels))
        how = draw(st.sampled_from(["frozen", "frozen", "trained", "range", "scattered"]))
        if self.channels < 2:
            how = "frozen"
        if how == "range":
            first = draw(st.integers(0, self.channels - 1))
            last = draw(st.integers(first, self.channels - 1 - (first == 0)))
            trained = tuple(range(first, last + 1))
        elif how == "scattered":
            trained = tuple(range(0, self.channels, 2))

        def tensor(name: str, channels: tuple[int, ...], dtype: str) -> Tensor:
            own = Quantization(tuple(every[c] for c in channels))
            part = Part(0, channels, self.channels) if len(channels) < self.channels else None
            shape = (len(channels), *self.geometry.kernel, 1)
            return Tensor(name, shape, dtype, "parameter", own, dtype == "int16", part)

        if how == "frozen":
            self.weights = [tensor("w", trained, "int8")]
            return
        self.weights = [tensor("w", trained, "int16")]
        if len(trained) < self.channels:
            rest = tuple(c for c in range(self.channels) if c not in trained)
            self.weights.append(tensor("w.frozen", rest, "int8"))

    @property
    def attributes(self) -> dict[str, Any]:
        return {"groups": self.channels, **self.geometry.attributes}


@st.composite
def forward_layers(draw: Draw) -> Case:
    layer = Layer(draw)
    x = activation(draw, "x", layer.geometry.source(layer.channels))
    y = activation(draw, "y", layer.geometry.target(layer.channels))
    bias = Tensor("b", (layer.channels,), "int32", "parameter")
    frozen = [weight.name for weight in layer.weights[1:]]
    step = make_step("conv2d", ["x", "w", "b", *frozen], "y", **layer.attributes, **bounds(draw))
    return case(draw, one_step(step, [x, *layer.weights, bias, y]))


@st.composite
def input_gradients(draw: Draw) -> Case:
    layer = Layer(draw)
    g = gradient(draw, "g", layer.geometry.target(layer.channels))
    out = gradient(draw, "out", layer.geometry.source(layer.channels))
    mask, how = masked(draw, out.shape)
    names = [tensor.name for tensor in (*layer.weights, *mask)]
    step = make_step("conv2d_dx", ["g", *names], ["out"], **layer.attributes, **how)
    return case(draw, one_step(step, [g, *layer.weights, *mask, out]))


@st.composite
def weight_updates(draw: Draw) -> Case:
    geometry = Geometry(draw)
    channels, first, more = (
        draw(st.integers(1, 9)),
        draw(st.integers(0, 3)),
        draw(st.integers(0, 2)),
    )
    every = first + channels + more
    own = Quantization(tuple(draw(scales) for _ in range(channels)))
    weight = Tensor("w", (channels, *geometry.kernel, 1), "int16", "parameter", own, True)
    g = gradient(draw, "g", geometry.target(every), folded=True)
    x = activation(draw, "x", geometry.source(every))
    outputs, attributes = updated(draw, weight)
    names = [tensor.name for tensor in outputs]
    attributes |= {"shape": weight.shape, "groups": channels, **geometry.attributes}
    if every > channels:
        where = tuple(range(first, first + channels))
        attributes |= {"x_channels": where, "g_channels": where}
    step = make_step("conv2d_dw", ["g", "x", *names], names, **attributes)
    return case(draw, one_step(step, [g, x, weight, *outputs]))


@FEW
@given(batch(st.one_of(forward_layers(), input_gradients(), weight_updates())))
def test_depthwise_kernels_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


@given(
    *(st.integers(1, high) for high in (9, 7, 3, 4)), st.booleans(), st.integers(1, 4),
    st.integers(0, 6),
)  # fmt: skip
def test_the_tiles_of_a_row_are_its_columns_with_the_taps_of_each(
    size: int, kernel: int, stride: int, after: int, transposed: bool, pixels: int, before: int
) -> None:
    before = min(before, kernel - 1)
    out = max(size + before + after - kernel, 0) // stride + 1
    read, written = (out, size) if transposed else (size, out)
    axis = Axis(read, written, kernel, stride, before, transposed)
    pixels *= axis.period
    found: list[tuple[int, list[tuple[int, int]]]] = []
    for group in column_tiles(axis, pixels):
        for turn in range(group.count):
            for p, taps in enumerate(group.taps):
                moved = [(element, at + turn * group.advance) for element, at in taps]
                found.append((group.first + turn * pixels + p, moved))
    pairs = [(o, i, o * stride + i - before) for o in range(out) for i in range(kernel)]
    expected: list[tuple[int, list[tuple[int, int]]]] = [(c, []) for c in range(written)]
    for output, element, source in pairs:
        column, at = (source, output) if transposed else (output, source)
        if 0 <= source < size:
            expected[column][1].append((element, at))
    assert [(c, sorted(taps)) for c, taps in found] == [(c, sorted(t)) for c, t in expected]


def test_forward_and_gradient_read_one_copy_of_a_frozen_weight() -> None:
    asked = []
    for make in (forward, input_gradient):
        task = make("layer", 6, 8, 8, 3, depthwise=True)
        (call,) = lower(task.program).calls
        arguments = [a for a in call.arguments if isinstance(a, TensorArgument)]
        asked += [a.axes for a in arguments if a.tensor == "w"]
    assert asked == [(1, 2, 3, 0)] * 2


def test_every_tile_that_is_tried_keeps_to_the_pixels_that_the_memory_plan_allows_for() -> None:
    for kind in ("depthwise", "depthwise_dx"):
        for stride in (1, 2, 3, 4):
            sizes = {"pixels": 7, "channels": 8, "rows": 3, "columns": 3, "stride": stride}
            workload = Workload(kind, sizes)
            tiles = candidates(workload)
            assert default_tile(workload) in tiles
            assert all(tile.pixels <= 4 for tile in tiles)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(load_board("qemu_f405")) as opened:
        yield opened


DEVICE_TASKS: dict[str, Callable[[], Task]] = {
    "3x3, 11 channels": lambda: forward("y", 7, 11, 11, 3, depthwise=True),
    "5x5 s2, narrower than the window": lambda: forward("y", 4, 8, 8, 5, 2, depthwise=True),
    "7x7": lambda: forward("y", 9, 9, 9, 7, depthwise=True),
    "3x3, trained": lambda: trained(forward("y", 7, 11, 11, 3, depthwise=True)),
    "dX 3x3 s2, 10 channels": lambda: input_gradient("dx", 7, 10, 10, 3, 2, depthwise=True),
    "dX 5x5": lambda: input_gradient("dx", 6, 8, 8, 5, depthwise=True),
    "dW 5x5 s2, 11 channels": lambda: weight_update("dw", 7, 11, 11, 5, 2, depthwise=True),
    "dX 3x3, trained": lambda: trained(input_gradient("dx", 6, 8, 8, 3, depthwise=True)),
}


@pytest.mark.parametrize("name", DEVICE_TASKS)
def test_the_vector_instructions_give_the_integers_of_the_portable_form(
    bench: Bench, name: str
) -> None:
    task = DEVICE_TASKS[name]()
    fast, slow = with_and_without_vectors(bench, task, "od_lane3")
    assert fast.count != slow.count  # They are different code.
    if "trained" not in name:  # Plain loops know frozen weights only.
        assert_plain_loops_write_the_same(bench, task, fast)
