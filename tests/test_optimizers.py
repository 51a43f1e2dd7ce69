"""Optimisers over many steps: float32 against torch.optim, int8 against the NumPy reference."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from elementwise_networks import ELEMENTWISE
from native_model import NativeModel
from ondevice_compiler import CompileOptions
from ondevice_compiler.errors import UserError
from ondevice_compiler.samples import pack_sample
from ondevice_compiler.scheme import UpdateScheme
from sequence_networks import SEQUENCE_NETWORKS
from sequence_reference import SequenceMachine
from small_networks import NETWORKS, Compilation, compiled_network, labels
from test_gradients import as_stored, torch_loss

STEPS = 24
EVERY = NETWORKS | SEQUENCE_NETWORKS | ELEMENTWISE
PART = UpdateScheme.of("part", [], {"depthwise.weight": (1, 4, 5), "head.weight": (0, 6)})
RULES: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam"},
    "adam, decay": {"optimizer": "adam", "weight_decay": 0.3, "beta1": 0.8, "epsilon": 1e-3},
    "sgd, decay": {"weight_decay": 0.4},
    "momentum, decay, value": {"optimizer": "momentum", "weight_decay": 0.2, "clip_value": 0.05},
    "sgd, norm": {"clip_norm": 0.3},
    "momentum, norm, sums": {"optimizer": "momentum", "clip_norm": 0.3, "accumulation_steps": 3},
    "adam, all": {
        "optimizer": "adam", "weight_decay": 0.1, "clip_norm": 0.5, "clip_value": 0.1,
        "accumulation_steps": 2,
    },
}  # fmt: skip


def made(
    name: str, rule: str, dtype: str = "int8", scheme: str | UpdateScheme = "full"
) -> Compilation:
    """A network compiled with a rule; once for all tests."""
    return compiled_network(EVERY[name], dtype=dtype, scheme=scheme, **RULES[rule])


def train(native: NativeModel, network: str, rate: float) -> Any:
    """Trains; yields after each sample: it, its label, and whether the parameters moved."""
    samples = native.manifest["optimizer"]["accumulation_steps"]
    for count, x in enumerate(EVERY[network].samples(STEPS, seed=3), start=1):
        native.train(x, labels(STEPS)[count - 1], rate)
        if samples > 1 and count % samples == 0:
            native.apply(rate)
        yield x, labels(STEPS)[count - 1], count % samples == 0


def torch_optimizer(module: Any, options: dict[str, Any], rate: float) -> Any:
    """The same rule, with weight decay for weights only."""
    weights = [p for p in module.parameters() if p.ndim > 1]
    biases = [p for p in module.parameters() if p.ndim == 1]
    decay = options.get("weight_decay", 0.0)
    groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    if options.get("optimizer") == "adam":
        betas, epsilon = (options.get("beta1", 0.9), 0.999), options.get("epsilon", 1e-8)
        return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=epsilon)
    momentum = 0.9 if options.get("optimizer") == "momentum" else 0.0
    return torch.optim.SGD(groups, lr=rate, momentum=momentum)


@pytest.mark.parametrize("rule", RULES)
def test_float_weights_follow_torch_optim(rule: str) -> None:
    options = RULES[rule]
    native = made("perceptron", rule, "float32").native()
    module = NETWORKS["perceptron"].module()
    reference = torch_optimizer(module, options, 0.02)
    samples = options.get("accumulation_steps", 1)
    for x, y, whole in train(native, "perceptron", 0.02):
        (torch_loss(module, x, y) / samples).backward()
        if whole:
            if "clip_norm" in options:
                torch.nn.utils.clip_grad_norm_(module.parameters(), options["clip_norm"])
            if "clip_value" in options:
                torch.nn.utils.clip_grad_value_(module.parameters(), options["clip_value"])
            reference.step()
            reference.zero_grad()
    stored = native.parameters()
    for key, parameter in module.named_parameters():
        expected = as_stored(parameter, stored[key].shape)
        np.testing.assert_allclose(stored[key], expected, 1e-4, 2e-5, err_msg=key)
    assert native.update_steps() == STEPS // samples


@pytest.mark.parametrize(
    ("name", "rule", "scheme"),
    [
        ("wearer", "momentum, decay, value", "full"),
        ("wearer", "adam", PART),
        ("groups", "adam, all", "full"),  # With float32 parameters.
        *(("perceptron", rule, "full") for rule in RULES),
    ],
)
def test_int8_updates_with_real_gradients_equal_the_reference_bit_for_bit(
    name: str, rule: str, scheme: str | UpdateScheme
) -> None:
    options, compilation = RULES[rule], made(name, rule, scheme=scheme)
    native, program = compilation.native(), compilation.program
    machine = SequenceMachine(program, compilation.histories, native.loss_error("cross_entropy"))
    samples = options.get("accumulation_steps", 1)
    start = native.parameters()
    for x, y, whole in train(native, name, 0.02):
        machine.train(np.frombuffer(pack_sample(native.manifest, x), np.int8), y, 0.02)
        if whole and samples > 1:
            machine.apply()
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"update {key}")
    moved = native.parameters()
    assert all((moved[key] != start[key]).any() for key in start if not key.endswith(".sum"))
    assert native.update_steps() == machine.updates == STEPS // samples


def real_weights(native: NativeModel) -> dict[str, NDArray[np.float64]]:
    """Trained tensors of an int8 model in real units."""
    found = native.parameters()
    real = {}
    for entry in native.manifest["parameters"]:
        if entry["scale"] is not None:
            scale = np.reshape(entry["scale"], (-1, *[1] * (len(entry["shape"]) - 1)))
            weight = entry["format"] == "q8.8"
            stored = found[entry["name"]].astype(float)
            real[entry["name"]] = (stored - 128 * weight) * scale / (256 if weight else 1)
    return real


@pytest.mark.parametrize("rule", ["adam", "momentum, decay, value", "sgd, norm"])
def test_int8_weights_stay_close_to_the_float_ones(rule: str) -> None:
    whole, real = (made("perceptron", rule, dtype).native() for dtype in ("int8", "float32"))
    start = real.parameters()
    for native in (whole, real):
        for _ in train(native, "perceptron", 0.005):
            pass
    moved = np.concatenate([(real.parameters()[k] - start[k]).ravel() for k in start])
    found, wanted = real_weights(whole), real.parameters()
    apart = np.concatenate([(found[k] - wanted[k]).ravel() for k in found])
    # Adam's first steps have one size, whatever the gradient's: rounding changes signs.
    assert np.sqrt((apart**2).mean()) < 0.4 * np.sqrt((moved**2).mean())


@pytest.mark.parametrize("name", ["decoder", "attention"])
def test_an_int8_network_moves_alike_in_integers_and_with_real_gradients(name: str) -> None:
    ends = []
    for options in ({}, {"clip_value": 1e6}):  # The second clips nothing, but computes in float32.
        native = compiled_network(EVERY[name], **options).native()
        start = native.parameters()
        list(islice(train(native, name, 0.05), 2))
        ends.append(native.parameters())
    assert sum((ends[0][key] != start[key]).any() for key in start) > len(start) // 2
    for key, whole in ends[0].items():
        apart = np.abs(ends[1][key].astype(np.float64) - whole).max()
        assert apart <= (1e-6 if whole.dtype == np.float32 else 1), key


def test_state_is_planned_and_listed() -> None:
    state = {}
    for rule in ("adam", "sgd, decay", "sgd, norm"):
        manifest = made("perceptron", rule).model.manifest
        elements = {e["name"]: int(np.prod(e["shape"])) for e in manifest["parameters"]}
        parameters = sum(n for name, n in elements.items() if name.count(".") == 1)
        state[rule] = (manifest["memory"]["state_bytes"] - 4) / parameters  # 4: update_steps.
        assert [e["name"] for e in manifest["parameters"] if e["format"] == "counter"] == [
            "update_steps"
        ]
    assert state == {"adam": 8, "sgd, decay": 0, "sgd, norm": 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta2": 1.0}, "beta2 1.0; allowed: at least 0 and below 1"),
        ({"weight_decay": -0.1}, "weight_decay -0.1; allowed: 0 or more"),
        ({"clip_norm": 0.0}, "clip_norm 0.0; allowed: above 0"),
        ({"clip_value": float("nan")}, "clip_value nan; allowed: above 0"),
        ({"loss": "mse", "label_smoothing": 0.1}, "label_smoothing 0.1 with loss mse"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CompileOptions(**options).check()
