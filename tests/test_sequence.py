"""Norms and sequence models: float32 against PyTorch, int8 against the NumPy reference."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.samples import pack_sample
from sequence_networks import SEQUENCE_NETWORKS
from sequence_reference import SequenceMachine
from small_networks import Network, compiled_network, labels
from test_gradients import OPTIMIZERS, as_stored, step_gradients, torch_loss


def trainable(network: Network) -> Any:
    return network.module().requires_grad_(True)


def torch_gradients(module: Any) -> dict[str, NDArray[np.float32]]:
    """By the compiler's names: `a.b.weight` is a_b.weight, a parameter of its own x.weight, and
    each third of an attention's input projection a layer.
    """
    found = {}
    for key, parameter in module.named_parameters():
        gradient = parameter.grad.numpy()
        layer, _, kind = key.rpartition(".")
        layer = layer.replace(".", "_")
        if kind.startswith("in_proj_"):
            for index, part in enumerate(np.split(gradient, 3)):
                found[f"{layer}_in_proj_{index}.{kind.removeprefix('in_proj_')}"] = part
        else:
            found[f"{layer}.{kind}" if layer else f"{key}.weight"] = gradient
    return found


@pytest.mark.parametrize("name", SEQUENCE_NETWORKS)
def test_float_gradients_equal_autograd(name: str) -> None:
    network = SEQUENCE_NETWORKS[name]
    native, module = compiled_network(network, dtype="float32").native(), trainable(network)
    for sample, y in zip(network.samples(2, seed=5), labels(2), strict=True):
        module.zero_grad()
        value = torch_loss(module, sample, y, "cross_entropy")
        value.backward()
        assert native.evaluate(sample, int(y))[0] == pytest.approx(value.item(), rel=1e-4)
        found = step_gradients(native, sample, int(y))
        wanted = torch_gradients(module)
        assert set(found) == set(wanted)
        steepest = max(float(np.abs(gradient).max()) for gradient in wanted.values())
        for key, gradient in found.items():
            expected = wanted[key]
            if gradient.ndim == 4 and not key.startswith("places"):
                expected = as_stored(torch.tensor(expected), gradient.shape)
            expected = expected.reshape(gradient.shape)
            np.testing.assert_allclose(gradient, expected, 1e-3, 2e-6 * steepest, err_msg=key)


@pytest.mark.parametrize("name", ["groups", "encoder"])
def test_onnx_files_give_the_output_of_onnxruntime(name: str, tmp_path: Path) -> None:
    network = SEQUENCE_NETWORKS[name]
    x, y = network.samples(4), labels(4)
    path = tmp_path / "model.onnx"
    names = {"input_names": ["x"], "output_names": ["y"]}
    torch.onnx.export(
        network.module(), (torch.tensor(x[:1]),), path, dynamo=False, opset_version=17, **names
    )
    made = compile_model(path, x, y, CompileOptions(dtype="float32"))
    native = NativeModel(made.files, made.manifest)
    session = onnxruntime.InferenceSession(str(path))
    for sample in x:
        native.evaluate(sample, 0)
        (expected,) = session.run(None, {"x": sample[None]})
        np.testing.assert_allclose(native.output(), expected.reshape(-1), 1e-4, 1e-5)


def runtime_exponential(native: NativeModel) -> Any:
    """The runtime's own exp, which test_runtime_numerics holds against float64."""
    function = native.library.od_expf
    function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
    return np.vectorize(function, otypes=[np.float32])


CASES = [
    ("groups", "sgd", "full"),
    ("layers", "accumulated momentum", "full"),
    ("attention", "sgd", "full"),
    ("attention", "accumulated momentum", "full"),
    ("encoder", "momentum", "bias"),
]


@pytest.mark.parametrize(("name", "optimizer", "scheme"), CASES)
def test_int8_training_equals_the_reference_bit_for_bit(
    name: str, optimizer: str, scheme: str
) -> None:
    network, options = SEQUENCE_NETWORKS[name], OPTIMIZERS[optimizer]
    made = compiled_network(network, scheme=scheme, **options)
    native = made.native()
    machine = SequenceMachine(made.program, made.histories, native.loss_error("cross_entropy"))
    machine.exponential = runtime_exponential(native)
    steps = options.get("accumulation_steps", 1)
    start = native.parameters()
    for number, x in enumerate(network.samples(8, seed=3), start=1):
        y = number % 5
        native.train(x, y, 0.05)
        dtype = made.program.tensor(made.program.input).dtype
        machine.train(np.frombuffer(pack_sample(made.model.manifest, x), dtype), y, 0.05)
        if steps > 1 and number % steps == 0:
            native.apply(0.05)
            machine.apply()
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"step {number}: {key}")
        expected = [(float(s.history), s.exponent, s.amax, s.saturated, s.zeros)
                    for s in machine.scales.values()]  # fmt: skip
        assert native.scales() == expected, f"step {number}"
    assert any((native.parameters()[key] != start[key]).any() for key in start)
