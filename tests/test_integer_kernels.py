"""Every int8 kernel against the NumPy reference, bit for bit, over random shapes and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from integer_reference import DelayedScale, Machine
from native_kernels import Case, make_step, one_step, run_cases
from ondevice_compiler.program import Program, Quantization, Tensor

CASES = 12  # In one library: each costs a gcc call.
FEW = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),  # Shrinking would call gcc for minutes.
    suppress_health_check=list(HealthCheck),
)
Draw = Callable[[Any], Any]

scales = st.floats(-9, 3).map(lambda power: float(2.0**power))
zero_points = st.integers(-128, 127)
exponents = st.one_of(st.integers(-8, 4), st.sampled_from([-100, -40, -15, 30]))


def activation(draw: Draw, name: str, shape: tuple[int, ...], kind: Any = "activation") -> Tensor:
    return Tensor(name, shape, "int8", kind, Quantization((draw(scales),), draw(zero_points)))


def gradient(draw: Draw, name: str, shape: tuple[int, ...], folded: bool | None = None) -> Tensor:
    fold = None
    if draw(st.booleans()) if folded is None else folded:
        fold = Quantization(tuple(draw(scales) for _ in range(shape[-1])))
    return Tensor(name, shape, "int8", "gradient", fold)


def numbers(draw: Draw, tensor: Tensor) -> NDArray[Any]:
    """Content of a tensor: uniform, sparse, or stuck at an extreme."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = {
        "int8": (-127, 127) if tensor.kind == "gradient" else (-128, 127),
        "int16": (-127 * 256, 127 * 256 + 255),
        "int32": (-(2**20), 2**20),
        "uint8": (0, 255),
    }[tensor.dtype]
    values = generator.integers(low, high + 1, tensor.shape)
    how = draw(st.sampled_from(["uniform", "uniform", "sparse", "small", "low", "high"]))
    if how == "sparse":
        values *= generator.random(tensor.shape) < 0.2
    elif how == "small":
        values = np.clip(values, -2 if low < 0 else 0, 2)
    elif how in ("low", "high"):
        values = np.where(
            generator.random(tensor.shape) < 0.9, low if how == "low" else high, values
        )
    return values.astype(tensor.dtype)


class Geometry:
    """A random window over a random map."""

    def __init__(self, draw: Draw, pool: bool = False) -> None:
        one_dimensional = draw(st.booleans())
        size = [1 if one_dimensional else draw(st.integers(1, 7)), draw(st.integers(1, 9))]
        if draw(st.integers(0, 4)) == 0:  # The window is the whole map: a linear layer.
            self.kernel, stride, padding = tuple(size), (1, 1), (0, 0, 0, 0)
        else:
            self.kernel = (
                1 if one_dimensional else draw(st.integers(1, min(5, size[0] + 2))),
                draw(st.integers(1, min(5, size[1] + 2))),
            )
            reach = [(k // 2 if pool else k - 1) for k in self.kernel]
            need = [max(0, k - s) for k, s in zip(self.kernel, size, strict=True)]
            before = [draw(st.integers(min(n, r), r)) for n, r in zip(need, reach, strict=True)]
            after = [draw(st.integers(min(n, r), r)) for n, r in zip(need, reach, strict=True)]
            stride = (1 if one_dimensional else draw(st.integers(1, 3)), draw(st.integers(1, 3)))
            padding = (before[0], before[1], after[0], after[1])
        self.size = (size[0], size[1])
        self.attributes: dict[str, Any] = {"stride": stride, "padding": padding}
        if pool:
            self.attributes["kernel"] = self.kernel
        self.out = tuple(
            (size[axis] + padding[axis] + padding[axis + 2] - self.kernel[axis]) // stride[axis] + 1
            for axis in (0, 1)
        )

    def source(self, channels: int) -> tuple[int, ...]:
        return (1, *self.size, channels)

    def target(self, channels: int) -> tuple[int, ...]:
        return (1, *self.out, channels)


def layer(draw: Draw, most_inputs: int = 3) -> tuple[Geometry, int, Tensor]:
    """Window, groups and weight [O, kh, kw, I / groups] of a dense, grouped or depthwise layer."""
    geometry = Geometry(draw)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inner = draw(st.integers(1, most_inputs))
    outputs = groups * draw(st.integers(1, 3))
    trained = draw(st.booleans())
    quantization = Quantization(tuple(draw(scales) for _ in range(outputs)))
    shape = (outputs, *geometry.kernel, inner)
    dtype = "int16" if trained else "int8"
    weight = Tensor("w", shape, dtype, "parameter", quantization, trained)
    return geometry, groups, weight


def masked(draw: Draw, shape: tuple[int, ...]) -> tuple[list[Tensor], dict[str, Any]]:
    """No mask, one from the clip's output, or one of bits."""
    kind = draw(st.sampled_from([None, "output", "bits"]))
    if kind is None:
        return [], {}
    if kind == "bits":
        bytes_ = -(-int(np.prod(shape)) // 8)
        return [Tensor("mask", (bytes_,), "uint8", "mask")], {"mask": "bits"}
    low = draw(st.integers(-128, 100))
    bounds = {"low": low, "high": draw(st.integers(low, 127)), "mask": "output"}
    return [activation(draw, "mask", shape)], bounds


def bounds(draw: Draw) -> dict[str, int]:
    """Clip bounds of a fused clip, or none."""
    if draw(st.booleans()):
        return {}
    low = draw(st.integers(-128, 127))
    return {"low": low, "high": draw(st.integers(low, 127))}


def case(draw: Draw, program: Program) -> Case:
    """The program with random contents of everything it reads, exponents and a rate."""
    step = program.steps[0]
    values = {name: numbers(draw, program.tensor(name)) for name in step.inputs}
    gradients = [name for name, tensor in program.tensors.items() if tensor.kind == "gradient"]
    rate = draw(
        st.one_of(
            st.floats(-30, 6).map(lambda p: 2.0**p),
            st.sampled_from([0.0, 1e-40, 1e-20, 1e9, 1e20, -0.01]),
        )
    )
    given_ = {name: draw(exponents) for name in gradients}
    return Case(program, values, given_, float(np.float32(rate)))


def check(cases: list[Case], reference: type[Machine] = Machine) -> None:
    """Runs the C and the reference."""
    for drawn, outcome in zip(cases, run_cases(cases), strict=True):
        machine = reference(drawn.program, {})
        machine.values.update({name: value.copy() for name, value in drawn.values.items()})
        for name, exponent in drawn.exponents.items():
            machine.scales[name] = DelayedScale(np.float32(0), exponent)
        machine.rate = np.float32(drawn.rate)
        step = drawn.program.steps[0]
        machine.run(step)
        for name in step.outputs:
            expected = machine.values[name].reshape(outcome.values[name].shape)
            np.testing.assert_array_equal(outcome.values[name], expected, str(drawn))
        for name, counters in outcome.counters.items():
            delayed = machine.scales[name]
            assert counters == (delayed.amax, delayed.saturated, delayed.zeros), str(drawn)


def batch(strategy: Any) -> Any:
    return st.lists(strategy, min_size=CASES, max_size=CASES)


@st.composite
def forward_convolutions(draw: Draw) -> Case:
    geometry, groups, weight = layer(draw)
    outputs = weight.shape[0]
    x = activation(draw, "x", geometry.source(groups * weight.shape[3]))
    y = activation(draw, "y", geometry.target(outputs))
    if draw(st.integers(0, 3)) == 0:
        y = Tensor("y", y.shape, "float32", "activation")
    bias = Tensor("b", (outputs,), "int32", "parameter")
    clip = bounds(draw) if y.dtype == "int8" else {}
    step = make_step("conv2d", "xwb", "y", groups=groups, **geometry.attributes, **clip)
    return case(draw, one_step(step, [x, weight, bias, y]))


@FEW
@given(batch(forward_convolutions()))
def test_convolutions_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


@st.composite
def input_gradients(draw: Draw) -> Case:
    geometry, groups, weight = layer(draw)
    shape = geometry.source(groups * weight.shape[3])
    g, out = gradient(draw, "g", geometry.target(weight.shape[0])), gradient(draw, "out", shape)
    mask, how = masked(draw, shape)
    inputs = ["g", "w", *(tensor.name for tensor in mask)]
    step = make_step("conv2d_dx", inputs, ["out"], groups=groups, **geometry.attributes, **how)
    return case(draw, one_step(step, [g, weight, *mask, out]))


@FEW
@given(batch(input_gradients()))
def test_input_gradients_of_convolutions_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


def updated(draw: Draw, parameter: Tensor) -> tuple[list[Tensor], dict[str, Any]]:
    """Outputs and attributes of an update by SGD, momentum or accumulation."""
    kind = draw(st.sampled_from(["sgd", "momentum", "accumulate"]))
    attributes: dict[str, Any] = {"update": kind, "parameter": parameter.name}
    state = Tensor("state", parameter.shape, parameter.dtype, "state", None, True)
    if kind == "sgd":
        return [parameter], attributes
    if kind == "momentum":
        return [parameter, state], {**attributes, "momentum": draw(st.floats(0, 0.999))}
    return [state], {**attributes, "factor": 1.0 / draw(st.integers(2, 7))}


def channels_of(draw: Draw, whole: int, count: int) -> tuple[int, ...]:
    """So many of the channels of a map: a range, or scattered ones."""
    if draw(st.booleans()):
        first = draw(st.integers(0, whole - count))
        return tuple(range(first, first + count))
    return tuple(sorted(draw(st.permutations(range(whole)))[:count]))


@st.composite
def weight_updates(draw: Draw) -> Case:
    geometry, groups, drawn = layer(draw, most_inputs=9)
    weight = Tensor("w", drawn.shape, "int16", "parameter", drawn.quantization, True)
    g_channels, x_channels = weight.shape[0], groups * weight.shape[3]
    outputs, attributes = updated(draw, weight)
    if groups == 1 and draw(st.booleans()):  # A part of a weight, of maps that hold more channels.
        g_channels, x_channels = g_channels + 2, x_channels + 3
        attributes |= {
            "g_channels": channels_of(draw, g_channels, weight.shape[0]),
            "x_channels": channels_of(draw, x_channels, weight.shape[3]),
        }
    g = gradient(draw, "g", geometry.target(g_channels), folded=True)
    x = activation(draw, "x", geometry.source(x_channels))
    names = [tensor.name for tensor in outputs]
    attributes |= {"shape": weight.shape, "groups": groups, **geometry.attributes}
    step = make_step("conv2d_dw", ["g", "x", *names], names, **attributes)
    return case(draw, one_step(step, [g, x, weight, *outputs]))


@FEW
@given(batch(weight_updates()))
def test_weight_updates_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


@st.composite
def bias_updates(draw: Draw) -> Case:
    shape = (1, draw(st.integers(1, 5)), draw(st.integers(1, 8)), draw(st.integers(1, 9)))
    own = Quantization(tuple(draw(scales) for _ in range(shape[3])))
    bias = Tensor("b", (shape[3],), "int32", "parameter", own, True)
    outputs, attributes = updated(draw, bias)
    names = [tensor.name for tensor in outputs]
    step = make_step("bias_gradient", ["g", *names], names, **attributes)
    return case(draw, one_step(step, [gradient(draw, "g", shape, True), bias, *outputs]))


@st.composite
def applied_updates(draw: Draw) -> Case:
    dtype = draw(st.sampled_from(["int16", "int32"]))
    names = ["p", "sum", "velocity"][: draw(st.integers(2, 3))]
    kinds: list[Any] = ["parameter", "state", "state"]
    shape = (draw(st.integers(1, 9)),)
    tensors = [Tensor(n, shape, dtype, k) for n, k in zip(names, kinds, strict=False)]
    step = make_step("apply_update", names, names, momentum=draw(st.floats(0, 0.999)))
    return case(draw, one_step(step, tensors))


@FEW
@given(batch(st.one_of(bias_updates(), applied_updates())))
def test_bias_updates_and_applied_sums_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


@st.composite
def forward_pools(draw: Draw) -> Case:
    geometry = Geometry(draw, pool=True)
    op = draw(st.sampled_from(["max_pool2d", "max_pool2d_argmax", "avg_pool2d"]))
    channels = draw(st.integers(1, 3))
    x = activation(draw, "x", geometry.source(channels))
    y = activation(draw, "y", geometry.target(channels))
    if op != "max_pool2d_argmax":
        step = make_step(op, "x", "y", **geometry.attributes)
        return case(draw, one_step(step, [x, y]))
    index = Tensor("index", y.shape, "uint8", "mask")
    program = one_step(make_step(op, "xy", ["index"], **geometry.attributes), [x, y, index])
    drawn = case(draw, program)
    pool = Machine(one_step(make_step("max_pool2d", "x", "y", **geometry.attributes), [x, y]), {})
    pool.values["x"] = drawn.values["x"]
    pool.run(pool.program.steps[0])
    drawn.values["y"] = pool.values["y"]
    return drawn


@FEW
@given(batch(forward_pools()))
def test_pools_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


@st.composite
def pool_gradients(draw: Draw) -> Case:
    geometry = Geometry(draw, pool=True)
    channels = draw(st.integers(1, 3))
    g, out = (
        gradient(draw, name, shape(channels))
        for name, shape in (("g", geometry.target), ("out", geometry.source))
    )
    mask, how = masked(draw, out.shape)
    attributes = {**geometry.attributes, **how}
    names = [tensor.name for tensor in mask]
    if draw(st.booleans()):
        step = make_step("avg_pool2d_gradient", ["g", *names], ["out"], **attributes)
        return case(draw, one_step(step, [g, *mask, out]))
    index = Tensor("index", g.shape, "uint8", "mask")
    step = make_step("max_pool2d_gradient", ["g", "index", *names], ["out"], **attributes)
    drawn = case(draw, one_step(step, [g, index, *mask, out]))
    area = geometry.kernel[0] * geometry.kernel[1]
    drawn.values["index"] %= np.uint8(area)
    return drawn


@FEW
@given(batch(pool_gradients()))
def test_gradients_of_pools_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


@st.composite
def elementwise(draw: Draw) -> Case:
    shape = (1, draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    op = draw(st.sampled_from(["add", "clip", "pack_mask", "clip_gradient", "add_gradient"]))
    low = draw(st.integers(-128, 127))
    clip = {"low": low, "high": draw(st.integers(low, 127))}
    if op in ("add", "clip"):
        names = "ab"[: 2 if op == "add" else 1]
        tensors = [activation(draw, name, shape) for name in (*names, "y")]
        step = make_step(op, names, "y", **(clip if op == "clip" else bounds(draw)))
        return case(draw, one_step(step, tensors))
    if op == "pack_mask":
        y = activation(draw, "y", shape)
        bits = Tensor("bits", (-(-y.elements // 8),), "uint8", "mask")
        return case(draw, one_step(make_step(op, "y", ["bits"], **clip), [y, bits]))
    mask, how = masked(draw, shape)
    names = "g" if op == "clip_gradient" else "gh"
    fold = draw(st.booleans())
    tensors = [gradient(draw, names[0], shape, fold)]
    tensors += [Tensor(name, shape, "int8", "gradient") for name in names[1:]]
    inputs = [*names, *(tensor.name for tensor in mask)]
    step = make_step(op, inputs, ["out"], **how)
    return case(draw, one_step(step, [*tensors, *mask, gradient(draw, "out", shape)]))


@FEW
@given(batch(elementwise()))
def test_elementwise_operators_and_their_gradients_equal_the_reference(cases: list[Case]) -> None:
    check(cases)
