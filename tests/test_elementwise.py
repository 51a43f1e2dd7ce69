"""Elementwise, rearranging and transposed operators: import, gradients, integer kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elementwise_networks import ELEMENTWISE
from integer_elementwise import ElementwiseMachine
from native_kernels import Case, make_step, one_step
from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.samples import pack_sample
from small_networks import compiled_network, labels
from test_gradients import as_stored, step_gradients, torch_loss
from test_integer_kernels import FEW, Draw, activation, batch, case, check, gradient, masked
from test_loader import export, listing

STEPS = 12
RATE = 0.05


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
            expected = as_stored(parameters[key].grad, slope.shape)
            largest = float(np.abs(expected).max())
            assert largest > 0, f"{key}: nothing to compare"
            np.testing.assert_allclose(slope, expected, 1e-4, 2e-5 * largest, err_msg=key)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_torch_and_onnx_files_give_the_same_program_and_output(name: str, tmp_path: Path) -> None:
    network = ELEMENTWISE[name]
    x, y = network.samples(4), labels(4)
    programs = []
    for kind in ("onnx", "pt2"):
        made = compile_model(export(network, tmp_path, kind), x, y, CompileOptions(dtype="float32"))
        programs.append(listing(made.stage_text("fuse")))
    assert programs[0] == programs[1]
    native = NativeModel(made.files, made.manifest)
    native.evaluate(x[0], int(y[0]))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
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


@FEW
@given(batch(upsamplings()))
def test_upsampling_equals_the_reference(cases: list[Case]) -> None:
    check(cases, ElementwiseMachine)
