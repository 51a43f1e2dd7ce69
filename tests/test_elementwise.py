"""Elementwise, rearranging and transposed operators: import, gradients, integer kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from elementwise_networks import ELEMENTWISE, UNPADDED
from integer_elementwise import ElementwiseMachine
from native_kernels import Case, make_step, one_step
from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.curve import (
    Curve,
    X,
    apply,
    clip,
    constant,
    derivative_from_output,
    gelu,
    gelu_tanh,
    parse,
)
from ondevice_compiler.load import load_model
from ondevice_compiler.ops.operator import attributes_of
from ondevice_compiler.program import Tensor
from ondevice_compiler.samples import pack_sample
from small_networks import compiled_network, labels
from test_gradients import as_stored, step_gradients, torch_loss
from test_integer_kernels import (
    FEW,
    Draw,
    activation,
    batch,
    bounds,
    case,
    check,
    gradient,
    layer,
    masked,
    updated,
)
from test_loader import export

CURVES: dict[str, Curve] = {
    "hard_swish": apply("*", X, apply("/", clip(apply("+", X, constant(3)), 0, 6), constant(6))),
    "hard_sigmoid": clip(apply("+", apply("*", X, constant(1 / 6)), constant(0.5)), 0, 1),
    "sigmoid": apply("sigmoid", X),
    "tanh": apply("tanh", X),
    "silu": apply("*", X, apply("sigmoid", X)),
    "gelu": gelu(X),
    "gelu_tanh": gelu_tanh(X),
    "leaky_relu": apply("leaky", X, constant(0.1)),
    "softplus": apply("log", apply("+", apply("exp", X), constant(1))),
    "reciprocal": apply("/", constant(1), apply("+", apply("*", X, X), constant(2))),
    "root": apply("sqrt", apply("+", apply("abs", X), constant(1))),
    "affine": apply("-", constant(1), apply("*", X, constant(0.25))),
}
TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "softplus": F.softplus,
    "reciprocal": lambda x: 1 / (x * x + 2),
    "root": lambda x: torch.sqrt(x.abs() + 1),
    "affine": lambda x: 1 - x / 4,
}
STEPS = 10
RATE = 0.05


def transposed_last(module: Any, parameter: str, value: torch.Tensor) -> torch.Tensor:
    """A transposed convolution's [I, O/groups, ...] as the [O, I/groups, ...] of a convolution."""
    layer = module.get_submodule(parameter.rpartition(".")[0])
    if not isinstance(layer, nn.ConvTranspose2d) or value.ndim != 4:
        return value
    groups = layer.groups
    grouped = value.reshape(groups, value.shape[0] // groups, *value.shape[1:]).transpose(1, 2)
    return grouped.reshape(-1, value.shape[0] // groups, *value.shape[2:])


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_float_gradients_equal_autograd(name: str) -> None:
    native = compiled_network(ELEMENTWISE[name], dtype="float32").native()
    module: Any = ELEMENTWISE[name].module()
    for sample, y in zip(ELEMENTWISE[name].samples(2, seed=5), labels(2), strict=True):
        module.zero_grad()
        value = torch_loss(module, sample, y)
        value.backward()
        assert native.evaluate(sample, y)[0] == pytest.approx(value.item(), rel=1e-5)
        found = step_gradients(native, sample, y)
        parameters = dict(module.named_parameters())
        assert set(found) == set(parameters)
        for key, slope in found.items():
            expected = as_stored(transposed_last(module, key, parameters[key].grad), slope.shape)
            largest = float(np.abs(expected).max())
            assert largest > 0, f"{key}: nothing to compare"
            np.testing.assert_allclose(slope, expected, 1e-4, 2e-5 * largest, err_msg=key)


def operators(path: Path) -> list[str]:
    """Operators of a file's normal form: in no order, and however it spells a function."""
    blocks = load_model(path).module["main"].body.blocks
    calls = [binding.value for block in blocks for binding in block.bindings]
    named = [call for call in calls if hasattr(call, "op")]
    attributes = [{**attributes_of(call), "curve": None} for call in named]
    return sorted(f"{call.op.name} {at}" for call, at in zip(named, attributes, strict=True))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_torch_and_onnx_files_give_the_same_operators_and_output(name: str, tmp_path: Path) -> None:
    network = UNPADDED if name == "decoder" else ELEMENTWISE[name]
    x, y = network.samples(4), labels(4)
    files = [export(network, tmp_path, kind) for kind in ("onnx", "pt2")]
    assert operators(files[0]) == operators(files[1])
    made = compile_model(files[0], x, y, CompileOptions(dtype="float32"))
    native = NativeModel(made.files, made.manifest)
    native.evaluate(x[0], int(y[0]))
    session = onnxruntime.InferenceSession(str(files[0]))
    (expected,) = session.run(None, {"x": x[:1]})
    np.testing.assert_allclose(native.output(), expected.reshape(-1), 1e-4, 1e-5)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_int8_training_equals_the_reference_and_learns_as_float32(name: str) -> None:
    network = ELEMENTWISE[name]
    made = compiled_network(network)
    native = made.native()
    machine = ElementwiseMachine(made.program, made.histories, native.loss_error("cross_entropy"))
    x, y = network.samples(STEPS, seed=3), labels(STEPS)
    module: Any = network.module()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    for number, sample in enumerate(x):
        native.train(sample, y[number], RATE)
        packed = np.frombuffer(pack_sample(made.model.manifest, sample), np.int8)
        machine.train(packed, y[number], RATE)
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"step {number}: {key}")
        optimizer.zero_grad()
        torch_loss(module, sample, y[number]).backward()
        optimizer.step()
    losses, expected = [], []
    for sample, label in zip(x, y, strict=True):
        losses.append(native.evaluate(sample, label)[0])
        expected.append(torch_loss(module, sample, label).item())
    assert np.mean(losses) == pytest.approx(np.mean(expected), abs=0.05)


@st.composite
def upsamplings(draw: Draw) -> Case:
    small = (1, draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    large = (1, small[1] * rows, small[2] * columns, small[3])
    if draw(st.booleans()):
        tensors = [activation(draw, "x", small), activation(draw, "y", large)]
        return case(
            draw, one_step(make_step("upsample2d", "x", "y", factor=(rows, columns)), tensors)
        )
    g, out = gradient(draw, "g", large, False), gradient(draw, "out", small)
    mask, how = masked(draw, small)
    inputs = ["g", *(tensor.name for tensor in mask)]
    step = make_step("upsample2d_gradient", inputs, ["out"], factor=(rows, columns), **how)
    return case(draw, one_step(step, [g, *mask, out]))


@st.composite
def functions(draw: Draw) -> Case:
    shape = (1, draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    curve = draw(st.sampled_from(list(CURVES.values())))
    if draw(st.booleans()):
        tensors = [activation(draw, "x", shape), activation(draw, "y", shape)]
        return case(draw, one_step(make_step("lookup", "x", "y", curve=str(curve)), tensors))
    slope = draw(st.sampled_from([curve.derivative(), constant(-0.3)]))
    saved = [] if slope.op == "constant" else [activation(draw, "saved", shape)]
    mask, how = masked(draw, shape)
    tensors = [gradient(draw, "g", shape, False), *saved, *mask]
    names = [tensor.name for tensor in tensors]
    step = make_step("lookup_gradient", names, ["out"], slope=str(slope), **how)
    return case(draw, one_step(step, [*tensors, gradient(draw, "out", shape)]))


@st.composite
def of_two_maps(draw: Draw) -> Case:
    shape = (1, draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    op = draw(st.sampled_from(["subtract", "multiply", "multiply_gradient"]))
    pixel = (1, 1, 1, shape[3])
    second = shape if op == "subtract" else draw(st.sampled_from([shape, pixel]))
    if op != "multiply_gradient":
        named = zip("aby", (shape, second, shape), strict=True)
        tensors = [activation(draw, name, extents) for name, extents in named]
        clip = bounds(draw) if op == "subtract" else {}
        return case(draw, one_step(make_step(op, "ab", "y", **clip), tensors))
    out = gradient(draw, "out", draw(st.sampled_from([shape, pixel])))
    other = activation(draw, "other", second if out.shape == shape else shape)
    mask, how = masked(draw, out.shape)
    inputs = ["g", "other", *(tensor.name for tensor in mask)]
    tensors = [gradient(draw, "g", shape, False), other, *mask, out]
    return case(draw, one_step(make_step(op, inputs, ["out"], **how), tensors))


@st.composite
def boxes(draw: Draw) -> Case:
    """Slices, pads and crops: a small box and the large map around it."""
    small = (1, draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    before = (0, *(draw(st.integers(0, 2)) for _ in range(3)))
    after = (0, *(draw(st.integers(0, 2)) for _ in range(3)))
    large = tuple(np.add(np.add(before, small), after).tolist())
    op = draw(st.sampled_from(["slice", "pad", "slice_gradient", "crop_gradient"]))
    if op == "slice":
        tensors = [activation(draw, "x", large), activation(draw, "y", small)]
        return case(draw, one_step(make_step(op, "x", "y", begin=before), tensors))
    if op == "pad":
        x, y = activation(draw, "x", small), activation(draw, "y", large)
        y = replace(y, quantization=draw(st.sampled_from([x.quantization, y.quantization])))
        sides = {"before": before, "after": after, "value": draw(st.sampled_from([0.0, 0.7]))}
        return case(draw, one_step(make_step(op, "x", "y", **sides), [x, y]))
    shapes = (small, large) if op == "slice_gradient" else (large, small)
    mask, how = masked(draw, shapes[1])
    tensors = [gradient(draw, "g", shapes[0], False), *mask, gradient(draw, "out", shapes[1])]
    step = make_step(op, [t.name for t in tensors[:-1]], ["out"], begin=before, **how)
    return case(draw, one_step(step, tensors))


@st.composite
def joins(draw: Draw) -> Case:
    axis, common = draw(st.integers(1, 3)), [1, *(draw(st.integers(1, 4)) for _ in range(3))]
    extents = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    shapes = [(*common[:axis], extent, *common[axis + 1 :]) for extent in extents]
    parts = [activation(draw, f"x{index}", shape) for index, shape in enumerate(shapes)]
    y = activation(draw, "y", (*common[:axis], sum(extents), *common[axis + 1 :]))
    step = make_step("concat", [part.name for part in parts], "y", axis=axis)
    return case(draw, one_step(step, [*parts, y]))


@st.composite
def transposed_convolutions(draw: Draw) -> Case:
    """A layer whose window slides over its output, and its gradients."""
    geometry, groups, weight = layer(draw)
    outputs, inputs = weight.shape[0], groups * weight.shape[3]
    small, large = geometry.target(inputs), geometry.source(outputs)
    op = draw(st.sampled_from(["conv2d_transpose", "conv2d_transpose_dx", "conv2d_transpose_dw"]))
    attributes: dict[str, Any] = {"groups": groups, **geometry.attributes}
    if op == "conv2d_transpose":
        y = activation(draw, "y", large)
        if draw(st.integers(0, 3)) == 0:
            y = Tensor("y", large, "float32", "activation")
        bias = Tensor("b", (outputs,), "int32", "parameter")
        attributes |= bounds(draw) if y.dtype == "int8" else {}
        step = make_step(op, "xwb", "y", **attributes)
        return case(draw, one_step(step, [activation(draw, "x", small), weight, bias, y]))
    if op == "conv2d_transpose_dx":
        mask, how = masked(draw, small)
        step = make_step(op, ["g", "w", *(t.name for t in mask)], ["out"], **attributes, **how)
        tensors = [gradient(draw, "g", large), weight, *mask, gradient(draw, "out", small)]
        return case(draw, one_step(step, tensors))
    weight = replace(weight, dtype="int16", trainable=True)
    changed, how = updated(draw, weight)
    names = [tensor.name for tensor in changed]
    step = make_step(op, ["g", "x", *names], names, shape=weight.shape, **attributes, **how)
    x = activation(draw, "x", small)
    return case(draw, one_step(step, [gradient(draw, "g", large, True), x, weight, *changed]))


@FEW
@given(batch(st.one_of(functions(), of_two_maps(), upsamplings(), boxes(), joins())))
def test_integer_kernels_equal_the_reference(cases: list[Case]) -> None:
    check(cases, ElementwiseMachine)


@FEW
@given(batch(transposed_convolutions()))
def test_transposed_convolutions_equal_the_reference(cases: list[Case]) -> None:
    check(cases, ElementwiseMachine)


@pytest.mark.parametrize("name", CURVES)
def test_curves_and_their_derivatives_equal_torch(name: str) -> None:
    curve, points = CURVES[name], np.linspace(-6.05, 6.07, 243)
    x = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    y = TORCH[name](x)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(curve(points), y.detach().numpy(), 1e-7, 1e-7)
    np.testing.assert_allclose(curve.derivative()(points), x.grad.numpy(), 1e-7, 1e-7)
    assert parse(str(curve.derivative())) == curve.derivative()
    by_output = derivative_from_output(curve)
    assert (by_output is None) == (name not in ("sigmoid", "tanh", "leaky_relu", "affine"))
    if by_output is not None:
        np.testing.assert_allclose(by_output(curve(points)), x.grad.numpy(), 1e-7, 1e-7)


@pytest.mark.parametrize(
    ("function", "exact", "relative", "absolute"),
    [
        ("od_sigmoidf", torch.sigmoid, 3e-7, 0.0),
        ("od_tanhf", torch.tanh, 1e-6, 0.0),
        ("od_erff", torch.erf, 0.0, 7e-7),
    ],
)
def test_runtime_functions_keep_the_errors_that_they_state(
    function: str, exact: Any, relative: float, absolute: float
) -> None:
    call = getattr(
        compiled_network(ELEMENTWISE["excited"], dtype="float32").native().library, function
    )
    call.argtypes, call.restype = [ctypes.c_float], ctypes.c_float
    points = np.concatenate([np.linspace(-80, 80, 4001), np.geomspace(1e-6, 8, 3001)])
    points = np.concatenate([points, -points]).astype(np.float32)
    found = np.array([call(float(point)) for point in points])
    expected = exact(torch.tensor(points, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, expected, relative, absolute)
