"""Weights trained in part: what they compute, what they save, and how a scheme names channels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from integer_reference import Machine
from native_kernels import Case, make_step, one_step
from native_model import NativeModel
from ondevice.checkpoint import checkpoint_from_device, load_checkpoint, save_checkpoint
from ondevice.info import describe_checkpoint, describe_manifest
from ondevice_compiler.autodiff import differentiate
from ondevice_compiler.errors import UserError
from ondevice_compiler.load import load_module
from ondevice_compiler.program import Part, Quantization, Tensor
from ondevice_compiler.samples import pack_sample
from ondevice_compiler.schedule import schedule
from ondevice_compiler.scheme import UpdateScheme, resolve_scheme
from ondevice_compiler.updates import Optimizer
from small_networks import NETWORKS, Compilation, compiled, labels
from test_gradients import as_stored, folded, torch_loss
from test_integer_kernels import (
    CASES,
    FEW,
    Draw,
    Geometry,
    activation,
    bounds,
    case,
    check,
    gradient,
    masked,
    scales,
    updated,
)

Channels = Mapping[str, tuple[int, ...]]
FEWER = settings(FEW, max_examples=3)
# Scattered and contiguous channels; depthwise; first, middle and last; of the input itself.
CHOSEN: dict[str, Channels] = {
    "inverted": {"expand": (0, 1), "depthwise": (0, 3, 4, 11), "project": (1, 2, 5, 11)},
    "wearer": {"stem": (1,), "depthwise": (2, 3, 4), "pointwise": (6, 7), "head": (2, 3, 4)},
    "residual": {"down": (0, 2, 3)},  # Its input is kept anyway, since `shortcut` trains whole.
    "pools": {"fc1": (1, 3)},
}
WHOLE = {"inverted": ("fc",), "wearer": ("fc",), "residual": ("shortcut",), "pools": ("fc",)}


def scheme_of(name: str, partial: bool = True) -> UpdateScheme:
    channels = {f"{layer}.weight": which for layer, which in CHOSEN[name].items()}
    whole = [f"{layer}.{kind}" for layer in WHOLE[name] for kind in ("weight", "bias")]
    biases = [f"{layer}.bias" for layer in CHOSEN[name]]
    chosen = UpdateScheme.of("chosen", [*whole, *biases], channels)
    return chosen if partial else replace(chosen, channels={})


def built(name: str, partial: bool = True, **options: Any) -> Compilation:
    return compiled(name, scheme=scheme_of(name, partial), **options)


def trained_part(name: str, weight: str, whole: NDArray[Any]) -> NDArray[Any]:
    """The trained channels of a weight [O, kh, kw, I] (or of its gradient)."""
    layer = weight.removesuffix(".weight")
    if not weight.endswith(".weight") or layer not in CHOSEN[name]:
        return whole
    return whole.take(list(CHOSEN[name][layer]), 0 if layer == "depthwise" else 3)


@pytest.mark.parametrize("name", ["inverted", "residual", "pools"])
def test_float_training_in_part_equals_torch_with_the_other_gradients_masked(name: str) -> None:
    native = built(name, dtype="float32", optimizer="momentum").native()
    module = folded(name)
    parameters = {key: p for key, p in module.named_parameters() if key in native.parameters()}
    reference = torch.optim.SGD(parameters.values(), lr=0.02, momentum=0.9)
    for sample, label in zip(NETWORKS[name].samples(12), labels(12), strict=True):
        reference.zero_grad()
        loss = torch_loss(module, sample, label, "cross_entropy")
        loss.backward()
        for layer, channels in CHOSEN[name].items():
            grad = parameters[f"{layer}.weight"].grad
            if layer == "fc1":  # Torch has one column an element of the flattened map: C, H, W.
                grad = grad.reshape(9, 4, 12)
            grad = grad.transpose(0, 0 if layer == "depthwise" else 1)
            others = [c for c in range(grad.shape[0]) if c not in channels]
            grad[others] = 0.0
        assert native.train(sample, label, 0.02) == pytest.approx(loss.item(), rel=1e-4)
        reference.step()
    stored = native.parameters()
    for key, parameter in parameters.items():
        shape = stored[key].shape
        whole = parameter.reshape(9, 4, 3, 4) if key == "fc1.weight" else parameter
        whole_shape = (whole.shape[0], *shape[1:3], whole.shape[1]) if len(shape) == 4 else shape
        expected = trained_part(name, key, as_stored(whole, whole_shape))
        np.testing.assert_allclose(stored[key], expected, 1e-4, 2e-5, err_msg=key)


@pytest.mark.parametrize("name", CHOSEN)
def test_int8_training_in_part_equals_the_reference_bit_for_bit(name: str) -> None:
    made = built(name)
    native = made.native()
    machine = Machine(made.program, made.histories, native.loss_error("cross_entropy"))
    start = native.parameters()
    for number, x in enumerate(NETWORKS[name].samples(12, seed=3)):
        label = labels(12)[number]
        native.train(x, label, 0.05)
        machine.train(np.frombuffer(pack_sample(made.model.manifest, x), np.int8), label, 0.05)
        for key, value in native.parameters().items():
            np.testing.assert_array_equal(value, machine.values[key], f"sample {number}: {key}")
    after = native.parameters()
    for layer in CHOSEN[name]:
        assert (after[f"{layer}.weight"] != start[f"{layer}.weight"]).any(), layer


def put_back(native: NativeModel, name: str, start: Mapping[str, NDArray[Any]]) -> None:
    """Undoes what a step did to the channels that a partial scheme does not train."""
    for index, entry in enumerate(native.manifest["parameters"]):
        layer = entry["name"].removesuffix(".weight")
        if entry["name"].endswith(".bias") or layer not in CHOSEN[name]:
            continue
        whole = native.parameters()[entry["name"]]
        axis = 0 if layer == "depthwise" else 3
        others = [c for c in range(whole.shape[axis]) if c not in CHOSEN[name][layer]]
        where: list[Any] = [slice(None)] * 4
        where[axis] = others
        whole[tuple(where)] = start[entry["name"]][tuple(where)]
        native.write(index, whole)


@pytest.mark.parametrize("name", ["inverted", "residual"])
def test_int8_training_in_part_equals_training_whole_with_the_other_channels_put_back(
    name: str,
) -> None:
    part, whole = built(name).native(), built(name, partial=False).native()
    start = whole.parameters()
    for sample, label in zip(NETWORKS[name].samples(12, seed=4), labels(12), strict=True):
        assert part.evaluate(sample, label) == whole.evaluate(sample, label)
        assert part.train(sample, label, 0.05) == whole.train(sample, label, 0.05)
        put_back(whole, name, start)
        np.testing.assert_array_equal(part.output(), whole.output())
        assert part.scales() == whole.scales()
    reference = whole.parameters()
    for key, value in part.parameters().items():
        np.testing.assert_array_equal(value, trained_part(name, key, reference[key]), key)


def test_every_scheme_starts_from_the_same_integer_network() -> None:
    frozen = compiled("inverted", scheme="bias-only").program
    trained = compiled("inverted", scheme="full").program
    # But for the last layer: where it trains, its scale is coarser, so that it can grow.
    for weight in ("stem.weight", "expand.weight", "depthwise.weight", "project.weight"):
        np.testing.assert_array_equal(frozen.values[weight], trained.values[weight] >> 8)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_ram_holds_only_the_trained_channels_and_flash_the_rest(dtype: str) -> None:
    made = built("inverted", dtype=dtype)
    manifest, files = made.model.manifest, made.model.files
    entries = {entry["name"]: entry for entry in manifest["parameters"]}
    element = 2 if dtype == "int8" else 4
    assert entries["project.weight"]["shape"] == [4, 1, 1, 4]
    assert entries["project.weight"]["bytes"] == 4 * 4 * element
    assert entries["project.weight"]["part"] == {"axis": 3, "channels": [1, 2, 5, 11], "of": 12}
    assert entries["depthwise.weight"]["part"] == {"axis": 0, "channels": [0, 3, 4, 11], "of": 12}
    assert "part" not in entries["fc.weight"]
    assert manifest["scheme"]["channels"]["expand.weight"] == [0, 1]
    assert re.search(r"^static const \w+ project_weight_frozen\[\]? ?=?", files["tables.h"], re.M)
    assert not re.search(r"^static \w+ project_weight_frozen", files["model.c"], re.M)


def test_checkpoint_and_info_say_which_channels_a_parameter_holds(tmp_path: Path) -> None:
    made = built("inverted")
    contents = [bytes(entry["bytes"]) for entry in made.model.manifest["parameters"]]
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, checkpoint_from_device(made.model.manifest, 3, contents))
    read = load_checkpoint(path)
    assert read.parts["depthwise.weight"]["channels"] == [0, 3, 4, 11]
    assert set(read.parts) == {f"{layer}.weight" for layer in CHOSEN["inverted"]}
    shown = "project.weight (4 of 12 channels)"
    assert any(f"{shown} int16 [4, 1, 1, 4]" in line for line in describe_checkpoint(path))
    assert any(shown in line for line in describe_manifest(made.model.manifest))


def backward_reads(made: Compilation) -> set[str]:
    """Activations that the emitted backward pass reads, other than as a mask."""
    read = set()
    for step in made.program.steps:
        if step.phase in ("backward", "update"):
            masked_by = {step.inputs[-1]} if step.attributes.get("mask") else set()
            read |= {n for n in step.inputs if made.program.tensor(n).kind == "activation"}
            read -= masked_by
    return read


def test_backward_reads_copies_of_the_chosen_channels_and_no_whole_map() -> None:
    made = built("inverted")
    reads = backward_reads(made)
    last = next(s.inputs[0] for s in made.program.steps if s.inputs[1:2] == ("fc.weight",))
    assert reads == {"expand.channels", "depthwise.channels", "project.channels", last}
    text = made.model.files["model.c"]
    evaluate, train = text.split("static int32_t train(")
    assert "slice_channels" in train
    assert "slice_channels" not in evaluate
    (mapped,) = re.findall(r"#define T_project_channels .*int8\[1,5,4,(\d+)\]", text)
    assert int(mapped) == 4


def test_a_map_that_backward_reads_anyway_is_not_copied() -> None:
    made = built("residual")
    assert not any(step.op == "slice_channels" for step in made.program.steps)
    (update,) = [s for s in made.program.steps if s.attributes.get("parameter") == "down.weight"]
    assert update.attributes["x_channels"] == (0, 2, 3)


def test_fewer_channels_need_less_ram() -> None:
    network = NETWORKS["inverted"]
    loaded = load_module(network.module(), torch.from_numpy(network.samples(1)))
    joint = differentiate(loaded, "cross_entropy", "inverted")
    sizes = []
    for count in (12, 6, 3):
        channels = {"project.weight": tuple(range(count))}
        scheme = UpdateScheme.of("project", ["project.bias", "fc.weight"], channels)
        resolved = resolve_scheme(scheme, joint.program)
        sizes.append(schedule(joint, None, resolved, Optimizer()).memory.ram_bytes)
    assert sizes[0] > sizes[1] > sizes[2]


# Kernels alone, over random shapes.


@st.composite
def split_layers(draw: Draw) -> tuple[Geometry, int, list[Tensor], tuple[int, ...]]:
    """Window, groups, the two parts of a weight, and its whole shape."""
    geometry = Geometry(draw)
    depthwise = draw(st.booleans())
    extent = draw(st.integers(2, 6))
    outputs = extent if depthwise else draw(st.integers(1, 4))
    start = draw(st.integers(0, extent - 1))
    run = range(start, draw(st.integers(start + 1, extent)))
    scattered = draw(st.sets(st.integers(0, extent - 1), min_size=1, max_size=extent - 1))
    chosen = sorted(run if draw(st.booleans()) and len(run) < extent else scattered)
    axis = 0 if depthwise else 3
    whole = (outputs, *geometry.kernel, 1 if depthwise else extent)
    own = [draw(scales) for _ in range(outputs)]
    parts = []
    rest = [c for c in range(extent) if c not in chosen]
    for name, held, dtype in (("w", chosen, "int16"), ("w.frozen", rest, "int8")):
        shape = tuple(len(held) if i == axis else size for i, size in enumerate(whole))
        scale = [own[c] for c in held] if depthwise else own
        quantization = Quantization(tuple(scale))
        part = Part(axis, tuple(held), extent)
        tensor = Tensor(name, shape, dtype, "parameter", quantization, name == "w", part)
        parts.append(tensor)
    return geometry, extent if depthwise else 1, parts, whole


@st.composite
def forward_cases(draw: Draw) -> Case:
    geometry, groups, parts, whole = draw(split_layers())
    x = activation(draw, "x", geometry.source(groups * whole[3]))
    y = activation(draw, "y", geometry.target(whole[0]))
    bias = Tensor("b", (whole[0],), "int32", "parameter")
    options = {"groups": groups, **geometry.attributes, **bounds(draw)}
    step = make_step("conv2d", ["x", "w", "b", "w.frozen"], "y", **options)
    return case(draw, one_step(step, [x, *parts, bias, y]))


@st.composite
def input_gradient_cases(draw: Draw) -> Case:
    geometry, groups, parts, whole = draw(split_layers())
    shape = geometry.source(groups * whole[3])
    g, out = gradient(draw, "g", geometry.target(whole[0])), gradient(draw, "out", shape)
    mask, how = masked(draw, shape)
    inputs = ["g", "w", "w.frozen", *(tensor.name for tensor in mask)]
    step = make_step("conv2d_dx", inputs, ["out"], groups=groups, **geometry.attributes, **how)
    return case(draw, one_step(step, [g, *parts, *mask, out]))


@st.composite
def update_cases(draw: Draw) -> Case:
    geometry, groups, parts, whole = draw(split_layers())
    weight = parts[0]
    assert weight.part is not None
    chosen = weight.part.channels
    g = gradient(draw, "g", geometry.target(whole[0]), folded=True)
    attributes: dict[str, Any] = {"shape": weight.shape, "groups": 1, **geometry.attributes}
    if groups > 1:
        attributes |= {"groups": len(chosen), "g_channels": chosen}
    sliced = draw(st.booleans())
    if not sliced:
        attributes["x_channels"] = chosen
    x = activation(draw, "x", geometry.source(len(chosen) if sliced else weight.part.extent))
    outputs, update = updated(draw, weight)
    names = [tensor.name for tensor in outputs]
    step = make_step("conv2d_dw", ["g", "x", *names], names, **attributes, **update)
    return case(draw, one_step(step, [g, x, weight, *outputs]))


@st.composite
def slice_cases(draw: Draw) -> Case:
    channels = draw(st.sets(st.integers(0, 6), min_size=1))
    x = activation(draw, "x", (1, draw(st.integers(1, 3)), draw(st.integers(1, 3)), 7))
    y = replace(x, name="y", shape=(*x.shape[:3], len(channels)))
    step = make_step("slice_channels", "x", "y", channels=tuple(sorted(channels)))
    return case(draw, one_step(step, [x, y]))


@FEWER
@given(
    st.lists(
        st.one_of(forward_cases(), input_gradient_cases(), update_cases(), slice_cases()),
        min_size=3 * CASES,
        max_size=3 * CASES,
    )
)
def test_kernels_of_split_weights_equal_the_reference(cases: list[Case]) -> None:
    check(cases)


def test_a_layer_with_groups_that_is_not_depthwise_is_refused() -> None:
    scheme = UpdateScheme.of("groups", [], {"right.weight": (0,)})
    with pytest.raises(UserError, match=r"right\.weight has 2 groups"):
        compiled("residual", scheme=scheme)
