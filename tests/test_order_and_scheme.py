"""What a scheme trains, what it leaves out, and the order in which updates happen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.errors import UserError
from ondevice_compiler.scheme import UpdateScheme
from small_networks import NETWORKS, compiled, labels

SCHEMES = ("full", "last", "last-2", "bias")


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("name", ["wearer", "residual"])
def test_no_step_reads_a_weight_after_its_update(name: str, optimizer: str) -> None:
    program = compiled(name, optimizer=optimizer).program
    trained = [key for key, t in program.tensors.items() if t.trainable and t.kind == "parameter"]
    assert trained
    for key in trained:
        readers = [i for i, s in enumerate(program.steps) if key in s.inputs]
        writers = [i for i, s in enumerate(program.steps) if key in s.outputs]
        assert len(writers) == 1
        assert max(readers) == writers[0], f"{key} is read after its update"


@pytest.mark.parametrize("name", NETWORKS)
def test_every_step_reads_only_what_an_earlier_one_wrote(name: str) -> None:
    program = compiled(name).program
    there = {n for n, t in program.tensors.items() if t.kind in ("input", "label", "parameter")}
    for step in program.steps:
        assert set(step.inputs) <= there, step.name
        there |= set(step.outputs)


@pytest.mark.parametrize("name", ["wearer", "pools", "inverted"])
def test_bias_training_saves_only_masks_and_the_last_layers_input(name: str) -> None:
    program = compiled(name, scheme="bias").program
    weights = [s.attributes["parameter"] for s in program.steps if s.op == "conv2d_dw"]
    assert weights == ["fc.weight"]
    (last,) = [s for s in program.steps if s.op == "conv2d" and s.inputs[1] == "fc.weight"]
    backward = [s for s in program.steps if s.phase in ("backward", "update")]
    saved = {n for s in backward for n in s.inputs if program.tensor(n).kind == "activation"}
    assert saved <= {last.inputs[0]}
    assert any(program.tensor(n).kind == "mask" for s in backward for n in s.inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_the_last_layer_propagates_no_gradient(name: str) -> None:
    program = compiled(name, scheme="last").program
    backward = [step.op for step in program.steps if step.phase in ("backward", "update")]
    assert sorted(backward) == ["bias_gradient", "conv2d_dw"]


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_frozen_parameters_are_const_and_keep_their_values(dtype: str) -> None:
    made = compiled("residual", scheme="last-2", dtype=dtype)
    tables, model = made.model.files["tables.h"], made.model.files["model.c"]
    listed = made.model.manifest["parameters"]
    trained = {p["name"] for p in listed if p["format"] != "counter"}
    assert trained == {"shortcut.weight", "shortcut.bias", "fc.weight", "fc.bias"}
    for name in ("stem_weight", "stem_bias", "down_weight", "down_bias"):
        assert re.search(rf"^static const \w+ {name}\[", tables, re.MULTILINE)
        assert not re.search(rf"^static \w+ {name}\[", model, re.MULTILINE)
    native = made.native()
    before = native.parameters()
    for x, y in zip(NETWORKS["residual"].samples(8), labels(8), strict=True):
        native.train(x, int(y), 0.1)
    after = native.parameters()
    assert all((before[name] != after[name]).any() for name in trained)


def test_each_scheme_needs_at_least_the_memory_of_a_smaller_one() -> None:
    sizes = {s: compiled("wearer", scheme=s).model.manifest["memory"]["ram_bytes"] for s in SCHEMES}
    assert sizes["last"] <= sizes["last-2"] <= sizes["full"]
    assert sizes["bias"] < sizes["full"]


def test_a_scheme_from_a_file_equals_the_same_scheme_as_an_object(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('weights = ["fc"]\nbiases = ["fc", "head"]\n', encoding="utf-8")
    from_file = compile_wearer(f"sparse:{path}")
    names = ["fc.weight", "fc.bias", "head.bias"]
    from_object = compile_wearer(UpdateScheme.of("sparse:own.toml", names))
    assert from_file == from_object
    assert "conv2d_dw" in from_file["kernels.h"]


def compile_wearer(scheme: str | UpdateScheme) -> dict[str, str]:
    network = NETWORKS["wearer"]
    options = CompileOptions(scheme=scheme)
    return compile_model(network.module(), network.samples(8), labels(8), options).files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("weights = [", "not valid TOML"),
        ('weights = ["nonsense"]', "unknown layers nonsense"),
        ('layers = ["fc"]', "unknown key 'layers'"),
        ('weights = "fc"', "must be a list"),
        ("weights = [1]", "unknown layers 1"),
        ("", "trains nothing"),
    ],
)
def test_a_faulty_scheme_file_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "scheme.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words) as caught:
        compile_wearer(f"sparse:{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "scheme", ["", "most", "last-0", "last-9", "last-x", "sparse:/nowhere/scheme.toml"]
)
def test_an_unknown_scheme_is_refused_in_one_line(scheme: str) -> None:
    with pytest.raises(UserError) as caught:
        compile_wearer(scheme)
    assert "\n" not in str(caught.value)


def test_an_object_that_names_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown parameters nothing\.weight"):
        compile_wearer(UpdateScheme.of("mine", ["nothing.weight"]))
