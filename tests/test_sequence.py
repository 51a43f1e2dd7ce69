"""Norms and sequence models: float32 against PyTorch, int8 against the NumPy reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.samples import pack_sample
from sequence_networks import SEQUENCE_NETWORKS
from sequence_reference import SequenceMachine
from small_networks import Network, compiled_network, labels
from test_gradients import OPTIMIZERS, as_stored, step_gradients, torch_loss
from test_loader import export_module


def trainable(network: Network) -> Any:
    return network.module().requires_grad_(True)


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
        wanted = {key: p.grad for key, p in module.named_parameters()}
        assert set(found) == set(wanted)
        steepest = max(float(gradient.abs().max()) for gradient in wanted.values())
        for key, gradient in found.items():
            expected = as_stored(wanted[key], gradient.shape)
            np.testing.assert_allclose(gradient, expected, 1e-3, 2e-6 * steepest, err_msg=key)


@pytest.mark.parametrize("name", ["layers"])
def test_onnx_files_give_the_output_of_onnxruntime(name: str, tmp_path: Path) -> None:
    network = SEQUENCE_NETWORKS[name]
    x, y = network.samples(4), labels(4)
    path = export_module(network.module(), network.shape, tmp_path, "onnx")
    made = compile_model(path, x, y, CompileOptions(dtype="float32"))
    native = NativeModel(made.files, made.manifest)
    session = onnxruntime.InferenceSession(str(path))
    for sample in x:
        native.evaluate(sample, 0)
        (expected,) = session.run(None, {"x": sample[None]})
        np.testing.assert_allclose(native.output(), expected.reshape(-1), 1e-4, 1e-5)


CASES = [
    *((name, "sgd", "full") for name in SEQUENCE_NETWORKS),
    ("groups", "accumulated momentum", "full"),
    ("layers", "momentum", "bias"),
]


@pytest.mark.parametrize(("name", "optimizer", "scheme"), CASES)
def test_int8_training_equals_the_reference_bit_for_bit(
    name: str, optimizer: str, scheme: str
) -> None:
    network, options = SEQUENCE_NETWORKS[name], OPTIMIZERS[optimizer]
    made = compiled_network(network, scheme=scheme, **options)
    native = made.native()
    machine = SequenceMachine(made.program, made.histories, native.loss_error("cross_entropy"))
    steps = options.get("accumulation_steps", 1)
    start = native.parameters()
    for number, x in enumerate(network.samples(8, seed=3), start=1):
        y = number % 5
        native.train(x, y, 0.05)
        packed = np.frombuffer(pack_sample(made.model.manifest, x), np.int8)
        machine.train(packed, y, 0.05)
        if steps > 1 and number % steps == 0:
            native.apply(0.05)
            machine.apply()
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"step {number}: {key}")
        expected = [(float(s.history), s.exponent, s.amax, s.saturated, s.zeros)
                    for s in machine.scales.values()]  # fmt: skip
        assert native.scales() == expected, f"step {number}"
    assert any((native.parameters()[key] != start[key]).any() for key in start)
