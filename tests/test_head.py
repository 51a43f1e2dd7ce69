"""A new last layer: the features stay, whatever kind of file they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.errors import UserError
from ondevice_compiler.load import load_model, load_module
from ondevice_compiler.load.head import replace_head
from small_networks import NETWORKS
from test_tflite import every_operator
from test_tiny_training import archive, small_tree

INPUTS = {"wearer": 12, "residual": 8, "pools": 9, "inverted": 4, "perceptron": 16}
LAST = {"classifier": 4, "fc1": 12}


@pytest.mark.parametrize("name", INPUTS)
def test_a_new_head_sees_the_same_features(name: str) -> None:
    network = NETWORKS[name]
    module: Any = network.module()
    x, y = network.samples(4), np.asarray([0, 6, 3, 1])
    made = compile_model(module, x, y, CompileOptions(dtype="float32", scheme="last", head=7))
    native = NativeModel(made.files, made.manifest)
    stored = native.parameters()
    weight = torch.tensor(stored["fc.weight"].reshape(7, INPUTS[name]))
    assert weight.abs().max() <= INPUTS[name] ** -0.5
    assert weight.unique().numel() == weight.numel()
    module.fc = nn.Linear(INPUTS[name], 7)
    with torch.no_grad():
        module.fc.weight[:] = weight
        module.fc.bias[:] = 0
        expected = module(torch.tensor(x[:1]))
    native.evaluate(x[0], 6)
    np.testing.assert_allclose(native.output(), expected[0].numpy(), 1e-4, 1e-5)


def test_gradients_pass_a_new_head_from_the_first_step() -> None:
    network = NETWORKS["perceptron"]
    made = compile_model(
        network.module(), network.samples(8), np.arange(8) % 3, CompileOptions(head=3)
    )
    native = NativeModel(made.files, made.manifest)
    before = native.parameters()["hidden.weight"]
    native.train(network.samples(1)[0], 2, 1.0)
    assert (native.parameters()["hidden.weight"] != before).any()


@pytest.mark.parametrize("kind", ["pkl", "tflite"])
def test_a_new_head_of_an_int8_file_forgets_the_old_ones_scale(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{kind}"
    path.write_bytes(archive(small_tree()) if kind == "pkl" else every_operator())
    old = load_model(path)
    new = replace_head(old, 9)
    layer = next(name for name in LAST if f"{name}.weight" in old.parameters)
    assert new.parameters[f"{layer}.weight"].shape == (9, 1, 1, LAST[layer])
    assert new.module["main"].ret_ty.shape.values[3] == 9
    for name, value in old.parameters.items():
        if not name.startswith(layer):
            assert new.parameters[name] is value
    scales = [text.count("w_scale") for text in (old.module.script(), new.module.script())]
    assert scales[1] == scales[0] - 1
    assert new.input_quantization == old.input_quantization is not None


class Last(nn.Module):  # type: ignore[misc]
    """A convolution whose map is averaged into the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3)
        self.last = nn.Conv2d(4, 5, 1)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.last(self.stem(x)))).mean((2, 3))


class Sum(nn.Module):  # type: ignore[misc]
    """Two layers whose sum is the output: neither is the last."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) + self.b(x)


def test_a_head_behind_which_only_pools_and_clips_follow_is_replaced() -> None:
    old = load_module(Last(), torch.zeros(1, 2, 6, 6))
    loaded = replace_head(old, 11)
    assert set(old.batch_norms) == {"last"}
    assert not loaded.batch_norms
    assert [int(v) for v in loaded.module["main"].ret_ty.shape.values] == [1, 1, 1, 11]


def test_a_model_without_a_last_layer_is_refused() -> None:
    loaded = load_module(Sum(), torch.zeros(1, 4))
    with pytest.raises(UserError, match="ends in add"):
        replace_head(loaded, 2)


@pytest.mark.parametrize("head", [0, -1, 65536])
def test_a_head_without_outputs_or_with_too_many_is_refused(head: int) -> None:
    with pytest.raises(UserError, match="head"):
        CompileOptions(head=head).check()
