"""Training steps of whole networks: float32 against PyTorch, int8 against the NumPy reference."""

from __future__ import annotations

import copy
import ctypes
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from integer_reference import Machine
from native_model import NativeModel
from ondevice_compiler.samples import pack_sample
from small_networks import NETWORKS, answers, compiled, labels

LARGE_RATE = 256.0  # Makes the step large against the rounding of the parameter it moves.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "momentum"},
    "accumulated": {"accumulation_steps": 3},
    "accumulated momentum": {"accumulation_steps": 4, "optimizer": "momentum"},
}


def folded(name: str) -> Any:
    """The network with each batch norm folded into its convolution by torch itself."""
    module: Any = copy.deepcopy(NETWORKS[name].module())
    if name == "inverted":
        for layer, norm in (("stem", "norm"), ("expand", "expand_norm")):
            both = getattr(module, layer), getattr(module, norm)
            setattr(module, layer, fuse_conv_bn_eval(*both))
            setattr(module, norm, nn.Identity())
    return module.requires_grad_(True)  # Torch leaves a folded bias without gradient.


def as_stored(value: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A torch parameter or gradient in the compiler's order: [O, kh, kw, I]."""
    array = value.detach().numpy()
    if len(shape) != 4:
        return np.asarray(array)
    outputs, height, width, inner = shape
    return np.asarray(array.reshape(outputs, inner, height, width).transpose(0, 2, 3, 1))


def torch_loss(
    module: Any, x: NDArray[Any], y: Any, loss: str = "cross_entropy", smoothing: float = 0.0
) -> Any:
    output = module(torch.tensor(x[None]))
    if loss == "mse":
        return F.mse_loss(output, torch.tensor(y[None]))
    if loss == "binary_cross_entropy":
        return F.binary_cross_entropy_with_logits(output, torch.tensor(y[None]))
    return F.cross_entropy(output, torch.tensor([int(y)]), label_smoothing=smoothing)


def step_gradients(native: NativeModel, x: NDArray[Any], y: Any) -> dict[str, NDArray[Any]]:
    """Gradients, from how far one step of SGD moves the parameters."""
    before = native.parameters()
    native.train(x, y, LARGE_RATE)
    after = native.parameters()
    native.model.reset()
    return {name: (before[name] - after[name].astype(float)) / LARGE_RATE for name in before}


@pytest.mark.parametrize(
    ("name", "loss", "smoothing"),
    [
        *((name, "cross_entropy", 0.0) for name in NETWORKS),
        ("perceptron", "cross_entropy", 0.2),
        ("pools", "mse", 0.0),
        ("perceptron", "mse", 0.0),
        ("perceptron", "binary_cross_entropy", 0.0),
    ],
)
def test_float_gradients_equal_autograd(name: str, loss: str, smoothing: float) -> None:
    native = compiled(name, dtype="float32", loss=loss, label_smoothing=smoothing).native()
    x, module = NETWORKS[name].samples(3, seed=5), folded(name)
    for sample, y in zip(x, answers(loss, 3), strict=True):
        module.zero_grad()
        value = torch_loss(module, sample, y, loss, smoothing)
        value.backward()
        assert native.evaluate(sample, y)[0] == pytest.approx(value.item(), rel=1e-5)
        found = step_gradients(native, sample, y)
        parameters = dict(module.named_parameters())
        assert set(found) == set(parameters)
        for key, gradient in found.items():
            expected = as_stored(parameters[key].grad, gradient.shape)
            largest = float(np.abs(expected).max())
            assert largest > 0, f"{key}: nothing to compare"
            np.testing.assert_allclose(gradient, expected, 1e-4, 1e-5 * largest, err_msg=key)


@pytest.mark.parametrize("name", NETWORKS)
def test_float_gradients_equal_finite_differences(name: str) -> None:
    native = compiled(name, dtype="float32").native()
    x, y = NETWORKS[name].samples(1, seed=7)[0], 2
    for index, (key, gradient) in enumerate(step_gradients(native, x, y).items()):
        stored = native.model.parameters[index]
        floats = ctypes.cast(stored.data, ctypes.POINTER(ctypes.c_float))
        parameter = np.ctypeslib.as_array(floats, gradient.shape)
        start = parameter.copy()
        slope = float(np.sqrt((gradient**2).sum()))
        distance = 2e-3
        losses = []
        for sign in (1, -1):  # Along the gradient itself, where the loss changes most.
            parameter[:] = start + sign * distance * gradient / slope
            losses.append(native.evaluate(x, y)[0])
        parameter[:] = start
        assert (losses[0] - losses[1]) / (2 * distance) == pytest.approx(slope, 0.03, 1e-3), key


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["wearer", "residual"])
def test_twenty_float_steps_move_the_parameters_as_torch_does(name: str, optimizer: str) -> None:
    options = OPTIMIZERS[optimizer]
    steps = options.get("accumulation_steps", 1)
    native, module = compiled(name, dtype="float32", **options).native(), folded(name)
    momentum = 0.9 if options.get("optimizer") == "momentum" else 0.0
    reference = torch.optim.SGD(module.parameters(), lr=0.02, momentum=momentum)
    x, y = NETWORKS[name].samples(20), labels(20)
    for count, (sample, label) in enumerate(zip(x, y, strict=True), start=1):
        (torch_loss(module, sample, label) / steps).backward()
        native.train(sample, label, 0.02)
        if count % steps == 0:
            reference.step()
            reference.zero_grad()
            if steps > 1:
                native.apply(0.02)
    stored = native.parameters()
    for key, parameter in module.named_parameters():
        expected = as_stored(parameter, stored[key].shape)
        np.testing.assert_allclose(stored[key], expected, 1e-4, 2e-5, err_msg=key)


CASES: list[tuple[str, str, str, str]] = [
    *((name, optimizer, "cross_entropy", "full") for name in NETWORKS for optimizer in ("sgd",)),
    *((name, "momentum", "cross_entropy", "bias") for name in ("wearer", "residual")),
    ("wearer", "accumulated", "cross_entropy", "full"),
    ("inverted", "accumulated momentum", "cross_entropy", "last-2"),
    ("pools", "momentum", "mse", "full"),
    ("perceptron", "sgd", "binary_cross_entropy", "full"),
]


@pytest.mark.parametrize(("name", "optimizer", "loss", "scheme"), CASES)
def test_int8_training_equals_the_reference_bit_for_bit(
    name: str, optimizer: str, loss: str, scheme: str
) -> None:
    options = OPTIMIZERS[optimizer]
    made = compiled(name, loss=loss, scheme=scheme, **options)
    native = made.native()
    machine = Machine(made.program, made.histories, native.loss_error(loss))
    count = 24
    ys = answers(loss, count)
    steps = options.get("accumulation_steps", 1)
    start = native.parameters()
    for number, x in enumerate(NETWORKS[name].samples(count, seed=3), start=1):
        native.train(x, ys[number - 1], 0.05)
        packed = np.frombuffer(pack_sample(made.model.manifest, x), np.int8)
        machine.train(packed, ys[number - 1], 0.05)
        if steps > 1 and number % steps == 0:
            native.apply(0.05)
            machine.apply()
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"step {number}: {key}")
        expected = [(float(s.history), s.exponent, s.amax, s.saturated, s.zeros)
                    for s in machine.scales.values()]  # fmt: skip
        assert native.scales() == expected, f"step {number}"
    assert any((native.parameters()[key] != start[key]).any() for key in start)
