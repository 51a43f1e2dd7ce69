"""Sparse update schemes in TOML files: how they name tensors and channels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from native_kernels import make_step
from native_model import ROOT
from ondevice_compiler.autodiff import differentiate
from ondevice_compiler.errors import UserError
from ondevice_compiler.load import load_model, load_module
from ondevice_compiler.load.graph import graph_of
from ondevice_compiler.program import Program, Tensor
from ondevice_compiler.scheme import UpdateScheme, resolve_scheme
from shared_data import shared
from small_networks import NETWORKS


@cache
def inverted() -> Program:
    network = NETWORKS["inverted"]
    loaded = load_module(network.module(), torch.from_numpy(network.samples(1)))
    return differentiate(loaded, "cross_entropy", "inverted").program


def resolved(folder: Path, text: str) -> UpdateScheme:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return resolve_scheme(f"sparse:{path}", inverted())


def test_a_file_chooses_channels_by_share_by_count_and_by_number(tmp_path: Path) -> None:
    found = resolved(
        tmp_path,
        'weights = ["fc"]\nbiases = "last-2"\n[channels]\nproject = 0.25\n'
        "depthwise = {first = 5}\nexpand = [3, 0]\n",
    )
    weight = NETWORKS["inverted"].module().project.weight.detach().numpy()
    norms = (weight**2).sum(axis=(0, 2, 3))
    strongest = tuple(sorted(int(c) for c in np.argsort(norms)[-3:]))
    assert found.channels == {
        "depthwise.weight": (0, 1, 2, 3, 4),
        "expand.weight": (0, 3),
        "project.weight": strongest,
    }
    whole_and_biases = {"fc.weight", "fc.bias", "project.bias"}
    assert found.parameters == whole_and_biases | set(found.channels)


def test_a_share_of_one_trains_the_weight_whole(tmp_path: Path) -> None:
    found = resolved(tmp_path, 'biases = "all"\n[channels]\nexpand = 1.0\n')
    assert found.channels == {}
    assert "expand.weight" in found.parameters
    assert len(found.parameters) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[channels]\nnothing = 0.5", "unknown layers nothing"),
        ("[channels]\nexpand = 1.5", r"1\.5; allowed: a share above 0 and up to 1"),
        ("[channels]\nexpand = {first = 5}", "N from 1 to 4"),
        ("[channels]\nexpand = {last = 2}", "allowed: a share"),
        ("[channels]\nexpand = [0, 4]", "allowed: one or more of 0 to 3"),
        ("[channels]\nexpand = []", "list of channels from 0 to 3"),
        ("[channels]\nexpand = true", "allowed: a share"),
        ('weights = ["expand"]\n[channels]\nexpand = 0.5', "in both 'weights' and 'channels'"),
        ("channels = 3", "must be a table"),
        ('biases = "last-9"', "K from 1 to 5"),
    ],
)
def test_a_faulty_choice_of_channels_is_refused_in_one_line(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        resolved(tmp_path, text)
    assert "\n" not in str(caught.value)


# The reference's schemes: conv index -> share of its input channels, and how many biases train.
PUBLISHED: dict[str, tuple[str, int, dict[int, float]]] = {
    "mcunet-5fps-49kb": ("mcunet-5fps", 20, {24: 0.25, 27: 0.5, 30: 0.5}),
    "mcunet-5fps-99kb": (
        "mcunet-5fps",
        22,
        {21: 1.0, 24: 1.0, 27: 1.0, 30: 1.0, 36: 0.125, 39: 0.25},
    ),
    "mbv2-w0.35-49kb": (
        "mbv2-w0.35",
        16,
        {36: 1.0, 39: 1.0, 41: 0.25, 42: 0.125, 45: 0.125, 48: 0.125, 49: 0.125},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_schemes_choose_the_layers_of_the_reference(name: str) -> None:
    model, biases, shares = PUBLISHED[name]
    loaded = load_model(shared(f"tiny-training/{model}.pkl"))
    weights = [key for key in loaded.parameters if key.endswith(".weight")]
    gradients = dict.fromkeys(loaded.parameters, "")
    steps = []
    for node in graph_of(loaded).nodes:
        if node.op == "conv2d":
            steps.append(make_step("conv2d", node.inputs, [node.name], **node.attributes))
    tensors = {
        key: Tensor(key, value.shape, "float32", "parameter")
        for key, value in loaded.parameters.items()
    }
    program = Program(
        model, tensors, tuple(steps), loaded.parameters, "x", "y", "z", "mse", gradients
    )
    path = ROOT / "benchmarks" / "schemes" / f"{name}.toml"
    found = resolve_scheme(f"sparse:{path}", program)
    trained = {key for key in found.parameters if key.endswith(".weight")}
    assert trained == {weights[-1], *(weights[index] for index in shares)}
    last = [key.replace(".weight", ".bias") for key in weights[-biases:]]
    assert {key for key in found.parameters if key.endswith(".bias")} == set(last)
    for index, share in shares.items():
        whole = loaded.parameters[weights[index]]
        channels = max(whole.shape[3], whole.shape[0] if whole.shape[3] == 1 else 0)
        chosen = found.channels.get(weights[index], tuple(range(channels)))
        assert len(chosen) == round(share * channels)
