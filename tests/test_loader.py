"""Model files: torch.export and ONNX agree with torch and onnxruntime; faults are named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.errors import UnsupportedOperatorsError, UserError
from ondevice_compiler.load import load_model
from small_networks import NETWORKS, Network, labels

FLOAT = CompileOptions(dtype="float32")


def export(network: Network, folder: Path, kind: str) -> Path:
    """The network as a file."""
    return export_module(network.module(), network.shape, folder, kind)


def export_module(module: Any, shape: tuple[int, ...], folder: Path, kind: str) -> Path:
    path = folder / f"model.{kind}"
    x = torch.zeros((1, *shape))
    if kind == "onnx":
        names = {"input_names": ["x"], "output_names": ["y"]}
        torch.onnx.export(module, (x,), path, dynamo=False, opset_version=17, **names)
    else:
        torch.export.save(torch.export.export(module, (x,)), path)
    return path


def listing(text: str) -> list[str]:
    """The steps of a printed program, tensors numbered: file formats do not share their names."""
    names = list(dict.fromkeys(re.findall(r"([\w.]+): \w+\[", text)))
    numbers = {name: f"t{index}" for index, name in enumerate(names)}
    steps = [line for line in text.splitlines() if re.match(r"\s+\d+ ", line)]
    assert steps
    return [re.sub(r"[\w.]+", lambda m: numbers.get(m[0], m[0]), line) for line in steps]


@pytest.mark.parametrize("name", NETWORKS)
def test_torch_and_onnx_files_give_the_same_program_and_output(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]
    x, y = network.samples(8), labels(8)
    programs, outputs = [], []
    for kind in ("onnx", "pt2"):
        path = export(network, tmp_path, kind)
        made = compile_model(path, x, y, FLOAT)
        programs.append(listing(made.stage_text("fuse")))
        native = NativeModel(made.files, made.manifest)
        native.evaluate(x[0], int(y[0]))
        outputs.append(native.output())
    assert programs[0] == programs[1]
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    (expected,) = session.run(None, {"x": x[:1]})
    with torch.no_grad():
        module_output = network.module()(torch.tensor(x[:1])).numpy()
    for output in outputs:
        np.testing.assert_allclose(output, expected.reshape(-1), 1e-4, 1e-5)
        np.testing.assert_allclose(output, module_output.reshape(-1), 1e-4, 1e-5)


class Exotic(nn.Module):  # type: ignore[misc]
    """Three operators that are not supported."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3)
        self.fc = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.sin(torch.cos(self.stem(x)))
        return self.fc(torch.round(x.mean((2, 3))))


def test_unsupported_operators_are_all_named_at_once(tmp_path: Path) -> None:
    path = export_module(Exotic().eval(), (1, 6, 6), tmp_path, "onnx")
    with pytest.raises(UnsupportedOperatorsError) as caught:
        load_model(path)
    assert {"sin", "cos", "round"} == set(caught.value.names)
    assert "\n" not in str(caught.value)


class Wide(nn.Module):  # type: ignore[misc]
    """A max pool whose window has more elements than an argmax of one byte can tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 2, 3)
        self.fc = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.max_pool1d(self.stem(x), 298).flatten(1))


def test_a_max_pool_too_wide_for_its_argmax_is_refused(tmp_path: Path) -> None:
    path = export_module(Wide().eval(), (1, 300), tmp_path, "onnx")
    with pytest.raises(UserError, match="max_pool2d with a window of 298"):
        load_model(path)


class Clamped(nn.Module):  # type: ignore[misc]
    """Two clips in a row, of which each closes to other values."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.clamp(F.relu(self.first(x)), -1.0, 0.3))


def test_two_clips_in_a_row_both_mask_the_gradient() -> None:
    torch.manual_seed(0)
    module: Any = Clamped().eval()
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    made = compile_model(module, x, labels(8) % 3, FLOAT)
    native = NativeModel(made.files, made.manifest)
    before = native.parameters()["first.weight"]
    native.train(x[0], 1, 64.0)
    found = (before - native.parameters()["first.weight"]) / 64.0
    F.cross_entropy(module(torch.tensor(x[:1])), torch.tensor([1])).backward()
    expected = module.first.weight.grad.numpy()
    assert (expected == 0).all(axis=1).any()
    np.testing.assert_allclose(found.reshape(8, 4), expected, 1e-4, 1e-6)


def refused(path: Path, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_model(path)
    assert "\n" not in str(caught.value), "one line"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.onnx", "none.onnx does not exist")


@pytest.mark.parametrize("kind", ["onnx", "pt2", "tflite", "pkl"])
@pytest.mark.parametrize("content", [b"", b"garbage", bytes(range(256)) * 20, b"PK\x03\x04"])
def test_a_file_of_garbage_is_refused_in_one_line(
    kind: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{kind}"
    path.write_bytes(content)
    refused(path, f"model.{kind}")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"x")
    refused(path, r"'\.keras'; allowed: \.onnx, \.pt2, \.tflite, \.pkl")


def test_a_truncated_file_is_refused_in_one_line(tmp_path: Path) -> None:
    for kind in ("onnx", "pt2"):
        path = export(NETWORKS["perceptron"], tmp_path, kind)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(path, f"model.{kind}")


def test_a_batch_of_two_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.onnx"
    module = NETWORKS["perceptron"].module()
    torch.onnx.export(module, (torch.zeros(2, 10),), path, dynamo=False, input_names=["x"])
    refused(path, "batch 1")


def test_a_dynamic_dimension_is_refused_by_name(tmp_path: Path) -> None:
    path = export(NETWORKS["perceptron"], tmp_path, "onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    onnx.save(model, path)
    refused(path, "dynamic dimension 'n'")


def test_a_dynamic_torch_program_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.pt2"
    shapes = ({0: torch.export.Dim("batch", min=2, max=8)},)
    module = NETWORKS["perceptron"].module()
    program = torch.export.export(module, (torch.zeros(4, 10),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    refused(path, "dynamic dimension")
