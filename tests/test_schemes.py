"""Update schemes end to end: what the emitted program keeps, and what `bn` and `tinytl` add."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from integer_elementwise import ElementwiseMachine
from native_kernels import Case, make_step, one_step, run_cases
from ondevice_compiler.errors import UserError
from ondevice_compiler.load import load_module
from ondevice_compiler.load.graph import graph_of
from ondevice_compiler.program import Step, Tensor
from ondevice_compiler.samples import pack_sample
from ondevice_compiler.scheme import UpdateScheme, prepare
from sequence_reference import SequenceMachine
from small_networks import NETWORKS, Compilation, compiled, labels
from test_gradients import as_stored, torch_loss

STEPS = 6


class ModuleMachine(SequenceMachine):
    """Interprets lite residual modules as well: norms, and upsampling."""

    def _upsample2d(self, step: Step) -> None:
        ElementwiseMachine._upsample2d(cast(ElementwiseMachine, self), step)

    def _upsample2d_gradient(self, step: Step) -> None:
        ElementwiseMachine._upsample2d_gradient(cast(ElementwiseMachine, self), step)


# Pruning, read from the emitted listing and manifest.


def across_the_loss(made: Compilation) -> dict[str, int]:
    """Bytes of the arena's tensors that forward writes and backward reads, by name."""
    manifest = made.model.manifest
    loss = next(op["index"] for op in manifest["ops"] if op["phase"] == "loss")
    return {
        tensor["name"]: tensor["bytes"]
        for tensor in manifest["memory"]["tensors"]
        if tensor["first_step"] < loss < tensor["last_step"]
    }


def operators(made: Compilation, *phases: str) -> list[str]:
    """Operators of the emitted program; each is checked to be called in the training listing."""
    train = made.model.files["model.c"].split("static int32_t train(")[1]
    ops = [op for op in made.model.manifest["ops"] if op["phase"] in phases]
    for op in ops:
        assert op["kernel"] in made.model.files["kernels.h"]
        assert f"    {op['kernel']}(" in train
    return [str(op["op"]) for op in ops]


@pytest.mark.parametrize(
    ("name", "dtype"), [("inverted", "int8"), ("inverted", "float32"), ("wearer", "int8")]
)
def test_bias_only_saves_bits_alone_and_emits_no_gradient_of_a_weight(
    name: str, dtype: str
) -> None:
    made = compiled(name, scheme="bias-only", dtype=dtype)
    saved = across_the_loss(made)
    assert saved, "a network with clips saves at least one mask"
    assert all(key.endswith((".mask", ".argmax")) for key in saved), saved
    assert "conv2d_dw" not in made.model.files["kernels.h"]
    trained = [t.name for t in made.program.tensors.values() if t.trainable]
    assert all(key.endswith(".bias") for key in trained if key != "update_steps")
    biases = [key for key in made.program.tensors if key.endswith(".bias")]
    assert operators(made, "update").count("bias_gradient") == len(biases)
    for clipped in (key for key in saved if key.endswith(".mask")):
        source = made.program.tensor(clipped.removesuffix(".mask"))
        assert saved[clipped] == -(-source.elements // 8)


def test_last_layers_save_their_own_inputs_and_backward_stops_at_the_earliest() -> None:
    made = compiled("inverted", scheme="last-2")  # project and fc
    assert sorted(operators(made, "backward", "update")) == [
        "avg_pool2d_gradient", "bias_gradient", "bias_gradient", "conv2d_dw", "conv2d_dw",
        "conv2d_dx",
    ]  # fmt: skip
    assert set(across_the_loss(made)) == {"depthwise.relu", "avg_pool1"}
    assert set(across_the_loss(compiled("inverted", scheme="last"))) == {"avg_pool1"}


def test_a_sparse_scheme_stops_at_its_earliest_bias_and_saves_what_its_weights_read() -> None:
    scheme = UpdateScheme.of("sparse", ["depthwise.bias", "fc.bias"], {"project.weight": (3, 8)})
    made = compiled("inverted", scheme=scheme)
    saved = across_the_loss(made)
    assert saved == {"project.channels": 5 * 4 * 2, "depthwise.relu.mask": 5 * 4 * 12 // 8}
    assert operators(made, "update").count("conv2d_dw") == 1
    assert operators(made, "backward", "update").count("conv2d_dx") == 2  # of fc and project
    text = made.model.files["model.c"]
    assert not re.search(r"T_d_(expand|stem|input)", text)


# Batch norms.


def trained_torch(name: str, keys: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The network in evaluation mode with gradients for some parameters alone."""
    module: Any = NETWORKS[name].module().requires_grad_(False)
    parameters = {key: p for key, p in module.named_parameters() if key in keys}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return module, parameters


def test_bn_trains_gamma_beta_and_the_last_layer_as_torch_does() -> None:
    native = compiled("inverted", scheme="bn", dtype="float32", optimizer="momentum").native()
    stored = native.parameters()
    names = {"norm", "expand_norm", "fc"}
    keys = {f"{layer}.{kind}" for layer in names for kind in ("weight", "bias")}
    assert {key for key in stored if not key.endswith((".velocity", "_steps"))} == keys
    module, parameters = trained_torch("inverted", dict.fromkeys(keys))
    reference = torch.optim.SGD(parameters.values(), lr=0.02, momentum=0.9)
    for sample, label in zip(NETWORKS["inverted"].samples(STEPS), labels(STEPS), strict=True):
        loss = torch_loss(module, sample, label, "cross_entropy")
        assert native.train(sample, label, 0.02) == pytest.approx(loss.item(), rel=1e-5)
        reference.zero_grad()
        loss.backward()
        reference.step()
    stored = native.parameters()
    for key, parameter in parameters.items():
        expected = as_stored(parameter, stored[key].shape) if key == "fc.weight" else parameter
        wanted = np.asarray(torch.as_tensor(expected).detach()).reshape(stored[key].shape)
        np.testing.assert_allclose(stored[key], wanted, 1e-4, 1e-6, err_msg=key)


@pytest.mark.parametrize("scheme", ["bn", "tinytl"])
def test_int8_training_equals_the_reference_bit_for_bit(scheme: str) -> None:
    made = compiled("inverted", scheme=scheme)
    native = made.native()
    machine = ModuleMachine(made.program, made.histories, native.loss_error("cross_entropy"))
    start = native.parameters()
    for number, x in enumerate(NETWORKS["inverted"].samples(2 * STEPS, seed=3)):
        label = int(labels(2 * STEPS)[number])
        native.train(x, label, 0.05)
        packed = np.frombuffer(pack_sample(made.model.manifest, x), np.int8)
        machine.train(packed, label, 0.05)
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"step {number}: {key}")
    after = native.parameters()
    still = [key for key in start if (after[key] == start[key]).all()]
    assert not still, "every trained parameter moves"


def test_a_model_without_batch_norms_gets_identities_that_change_nothing() -> None:
    plain = compiled("wearer", scheme="last", dtype="float32")
    made = compiled("wearer", scheme="bn", dtype="float32")
    affine = {p["name"] for p in made.model.manifest["parameters"] if ".norm." in p["name"]}
    layers = ("stem", "depthwise", "pointwise", "head")
    assert affine == {f"{layer}.norm.{kind}" for layer in layers for kind in ("weight", "bias")}
    before, after = plain.native(), made.native()
    for sample, label in zip(NETWORKS["wearer"].samples(3), labels(3), strict=True):
        assert before.evaluate(sample, label) == after.evaluate(sample, label)
        np.testing.assert_array_equal(before.output(), after.output())


def test_gamma_keeps_its_value_to_the_step_and_can_nearly_double() -> None:
    made = compiled("inverted", scheme="bn")
    for name in ("norm", "expand_norm"):
        tensor = made.program.tensor(f"{name}.weight")
        assert tensor.quantization is not None
        stored = made.program.values[tensor.name].reshape(-1) >> 8
        assert set(np.abs(stored)) == {64}
        gamma = getattr(NETWORKS["inverted"].module(), name).weight.detach().numpy()
        np.testing.assert_allclose(stored * tensor.quantization.scales, gamma, 1e-6)


# Lite residuals.


class LiteInverted:
    """Torch's forward pass of `Inverted` with a lite residual module, written from the paper."""

    def __init__(self, start: Mapping[str, NDArray[Any]]) -> None:
        self.module: Any = NETWORKS["inverted"].module().requires_grad_(False)
        self.lite = {
            key: torch.tensor(as_torch(value), requires_grad=True)
            for key, value in start.items()
            if key.startswith("lite0.")
        }

    def trained(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        own = {k: p for k, p in self.module.named_parameters() if k in stored}
        for layer, norm in (("stem", "norm"), ("expand", "expand_norm")):
            own[f"{layer}.bias"] = getattr(self.module, norm).bias  # What the folded bias holds.
        return {**{k: p.requires_grad_(True) for k, p in own.items()}, **self.lite}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        m, lite = self.module, self.lite
        x = F.relu6(m.norm(m.stem(x)))
        y = m.project(F.relu6(m.depthwise(F.relu6(m.expand_norm(m.expand(x))))))
        z = F.avg_pool2d(x, (1, 2))  # Five rows cannot be halved.
        z = F.conv2d(z, lite["lite0.conv1.weight"], padding=(2, 1), groups=2)
        z = F.group_norm(z, 1, lite["lite0.norm1.weight"], lite["lite0.norm1.bias"])
        z = F.conv2d(F.relu(z), lite["lite0.conv2.weight"])
        z = F.group_norm(z, 1, lite["lite0.norm2.weight"], lite["lite0.norm2.bias"])
        x = x + y + F.interpolate(z, scale_factor=(1, 2), mode="nearest")
        return m.fc(x.mean((2, 3)))


def as_torch(value: NDArray[Any]) -> NDArray[Any]:
    """[O, kh, kw, I] to torch's [O, I, kh, kw]."""
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 else value


def test_tinytl_starts_unchanged_and_trains_as_torch_does() -> None:
    native = compiled("inverted", scheme="tinytl", dtype="float32").native()
    start = native.parameters()
    network = LiteInverted(start)
    plain: Any = NETWORKS["inverted"].module()
    parameters = network.trained(start)
    reference = torch.optim.SGD(parameters.values(), lr=0.05)
    for number, sample in enumerate(NETWORKS["inverted"].samples(STEPS)):
        label = int(labels(STEPS)[number])
        loss = torch_loss(network, sample, label, "cross_entropy")
        if number == 0:
            first = torch_loss(plain, sample, label, "cross_entropy")
            assert loss.item() == pytest.approx(first.item(), rel=1e-6)
        assert native.train(sample, label, 0.05) == pytest.approx(loss.item(), rel=1e-4)
        reference.zero_grad()
        loss.backward()
        reference.step()
    stored = native.parameters()
    for key, parameter in parameters.items():
        if key not in stored:
            continue
        wanted = parameter.detach().numpy()
        if key in ("stem.bias", "expand.bias"):  # The fold moves it by a constant.
            folded = start[key] - NORMS_START[key]
            wanted = wanted + folded
        wanted = as_stored(parameter, stored[key].shape) if wanted.ndim > 1 else wanted
        np.testing.assert_allclose(stored[key], wanted, 1e-3, 2e-5, err_msg=key)
    assert (stored["lite0.conv1.weight"] != start["lite0.conv1.weight"]).any()


NORMS_START = {
    f"{layer}.bias": getattr(NETWORKS["inverted"].module(), norm).bias.detach().numpy()
    for layer, norm in (("stem", "norm"), ("expand", "expand_norm"))
}


@pytest.mark.parametrize("dead", ["a", "b"])
def test_a_branch_that_has_no_gradient_yet_does_not_block_the_other(dead: str) -> None:
    tensors = [Tensor(name, (1, 1, 3, 2), "int8", "gradient") for name in ("a", "b", "out")]
    step = make_step("add_gradient", "ab", ["out"])
    alive = np.array([-127, -3, 0, 1, 64, 127], np.int8).reshape(1, 1, 3, 2)
    values = {name: np.zeros_like(alive) if name == dead else alive for name in "ab"}
    exponents = {name: -100 if name == dead else 2 for name in ("a", "b", "out")}
    (outcome,) = run_cases([Case(one_step(step, tensors), values, exponents)])
    np.testing.assert_array_equal(outcome.values["out"], alive)


def test_tinytl_saves_small_maps_and_no_input_of_a_frozen_weight() -> None:
    made = compiled("inverted", scheme="tinytl")
    saved = across_the_loss(made)
    masks = {key for key in saved if key.endswith(".mask")}
    others = set(saved) - masks
    assert masks == {"stem.relu.mask", "expand.relu.mask", "depthwise.relu.mask"}
    assert others == {"avg_pool1", "lite0.conv1", "lite0.norm1.relu", "lite0.conv2", "avg_pool2"}
    weights = [s.attributes["parameter"] for s in made.program.steps if s.op == "conv2d_dw"]
    assert set(weights) == {"lite0.conv1.weight", "lite0.conv2.weight", "fc.weight"}


def test_lite_modules_run_at_half_the_resolution_with_a_sixth_of_the_channels() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU6(),
        torch.nn.Conv2d(16, 96, 1), torch.nn.ReLU6(),
        torch.nn.Conv2d(96, 96, 3, stride=2, padding=1, groups=96), torch.nn.ReLU6(),
        torch.nn.Conv2d(96, 24, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(24, 5),
    )  # fmt: skip
    loaded = prepare(load_module(network, torch.zeros(1, 3, 32, 16)), "tinytl")
    nodes = {node.name: node for node in graph_of(loaded).nodes}
    lite = {node.inputs[1]: node for node in nodes.values() if "lite" in "".join(node.inputs)}
    first, second = lite["lite0.conv1.weight"], lite["lite0.conv2.weight"]
    assert nodes[first.inputs[0]].op == "avg_pool2d"
    assert nodes[first.inputs[0]].shape == (1, 16, 8, 16)
    assert first.shape == (1, 8, 4, 16)
    assert (first.attributes["groups"], tuple(first.attributes["stride"])) == (2, (2, 2))
    assert loaded.parameters["lite0.conv1.weight"].shape == (16, 5, 5, 8)
    assert second.shape == (1, 8, 4, 24)
    assert not loaded.parameters["lite0.norm2.weight"].any()
    (sum_,) = (node for node in nodes.values() if node.op == "add")
    assert sum_.shape == (1, 16, 8, 24)


@pytest.mark.parametrize("scheme", ["bn", "tinytl"])
def test_a_model_with_one_layer_has_nothing_to_add_to(scheme: str) -> None:
    loaded = load_module(torch.nn.Linear(4, 3), torch.zeros(1, 4))
    with pytest.raises(UserError, match=f"scheme {scheme}") as caught:
        prepare(loaded, scheme)
    assert "\n" not in str(caught.value)
