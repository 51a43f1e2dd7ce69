"""ONNX operators in the forms that exporters write, against onnxruntime; unknown ones are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.errors import UnsupportedOperatorsError
from ondevice_compiler.load import load_model, load_module
from ondevice_compiler.load.onnx_graph import fold

SHAPE = (1, 3, 7, 9)
CLASSES = 4


class Graph:
    """Builds a model whose last layer is a Gemm `fc`."""

    def __init__(self, shape: tuple[int, ...] = SHAPE, opset: int = 17) -> None:
        self.shape, self.opset = shape, opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.generator = np.random.default_rng(0)
        self.last = "x"

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weights(self, name: str, *shape: int) -> str:
        return self.constant(name, self.generator.standard_normal(shape) * 0.5)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> None:
        output = f"t{len(self.nodes)}"
        source = (self.last, *inputs)
        self.nodes.append(helper.make_node(kind, source, [output], **attributes))
        self.last = output

    def norm(self, name: str, channels: int) -> None:
        statistics = [self.weights(f"{name}.weight", channels), self.weights(f"{name}.b", channels)]
        statistics.append(self.weights(f"{name}.mean", channels))
        positive = self.generator.uniform(0.5, 2, channels)
        self.add("BatchNormalization", *statistics, self.constant(f"{name}.var", positive))

    def conv(self, name: str, inner: int, outer: int, kernel: int, **attributes: Any) -> None:
        weight = self.weights(f"{name}.weight", outer, inner, kernel, kernel)
        self.add("Conv", weight, self.weights(f"{name}.bias", outer), **attributes)

    def model(self, classes: int = CLASSES) -> Any:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(self.last, TensorProto.FLOAT, (1, classes))
        graph = helper.make_graph(self.nodes, "g", [x], [y], self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("mine", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, folder: Path) -> Path:
        path = folder / "model.onnx"
        onnx.save(self.model(), path)
        return path


def gemm(g: Graph, inputs: int, **attributes: Any) -> None:
    shape = (CLASSES, inputs) if attributes.get("transB") else (inputs, CLASSES)
    g.add("Gemm", g.weights("fc.weight", *shape), g.weights("fc.bias", CLASSES), **attributes)


def factors() -> Graph:
    """Gemm with factors, behind Clip without an upper bound, GlobalAveragePool and Flatten."""
    g = Graph()
    g.conv("stem", 3, 5, 3)
    g.add("Clip", g.constant("low", 0.1))
    g.add("GlobalAveragePool")
    g.add("Flatten")
    gemm(g, 5, alpha=0.25, beta=3.0, transB=1)
    return g


def plain_gemm() -> Graph:
    """Gemm neither transposed nor scaled, on a map flattened by Flatten."""
    g = Graph()
    g.conv("stem", 3, 2, 3, strides=[2, 2])
    g.add("Clip", g.constant("low", -0.3), g.constant("high", 0.4))
    g.add("Flatten", axis=1)
    gemm(g, 2 * 3 * 4)
    return g


def padded() -> Graph:
    """TensorFlow's strided convolutions: a Pad of one side, then a Conv with padding of its own."""
    g = Graph()
    g.add("Pad", g.constant("pads", [0, 0, 0, 1, 0, 0, 2, 1], np.int64))
    g.conv("stem", 3, 4, 3, strides=[2, 2], pads=[1, 0, 0, 0])
    g.add("Relu")
    g.add("Pad", g.constant("more", [0, 0, 1, 1, 0, 0, 1, 1], np.int64), g.constant("zero", 0.0))
    g.conv("next", 4, 5, 3, auto_pad="VALID")
    g.add("ReduceMean", axes=[2, 3], keepdims=0)
    gemm(g, 5)
    return g


def old_pad() -> Graph:
    """Pad as an attribute, as up to opset 10."""
    g = Graph(opset=10)
    g.add("Pad", pads=[0, 0, 1, 2, 0, 0, 1, 0])
    g.conv("stem", 3, 4, 3)
    g.add("GlobalAveragePool")
    g.add("Flatten")
    gemm(g, 4)
    return g


def norms() -> Graph:
    """Batch norms where nothing can take them up: first of all, after a clip, before a padding."""
    g = Graph()
    g.norm("first", 3)
    g.conv("stem", 3, 4, 3, pads=[1, 1, 1, 1])
    g.norm("folded", 4)
    g.add("Relu")
    g.norm("second", 4)
    g.conv("next", 4, 5, 3, pads=[1, 1, 1, 1])
    g.add("GlobalAveragePool")
    g.add("Flatten")
    gemm(g, 5)
    return g


def rounded_up() -> Graph:
    """Pools whose last window is cut, with and without padding, and one that is not cut."""
    g = Graph((1, 3, 8, 11))
    g.conv("stem", 3, 4, 1)
    g.add("MaxPool", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)
    g.add("MaxPool", kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 0, 0], ceil_mode=1)
    g.add("AveragePool", kernel_shape=[2, 1], strides=[1, 1], ceil_mode=1)
    g.add("Flatten")
    gemm(g, 12)
    return g


@pytest.mark.parametrize("build", [factors, plain_gemm, padded, old_pad, norms, rounded_up])
def test_every_form_equals_onnxruntime(build: Callable[[], Graph], tmp_path: Path) -> None:
    path = build().save(tmp_path)
    session = onnxruntime.InferenceSession(str(path))
    shape = tuple(session.get_inputs()[0].shape)
    x: NDArray[np.float32] = np.random.default_rng(1).standard_normal((3, *shape[1:]), np.float32)
    options = CompileOptions(dtype="float32", scheme="last")
    made = compile_model(path, x, np.asarray([0, 1, 2]), options)
    native = NativeModel(made.files, made.manifest)
    for sample in x:
        native.evaluate(sample, 0)
        (expected,) = session.run(None, {"x": sample[None]})
        np.testing.assert_allclose(native.output(), expected[0], 1e-4, 1e-5)


def test_paddings_and_factors_leave_no_operator_behind(tmp_path: Path) -> None:
    for build, steps in ((padded, 4), (factors, 3)):
        main = load_model(build().save(tmp_path)).module["main"]
        calls = [b for block in main.body.blocks for b in block.bindings if hasattr(b.value, "op")]
        names = [binding.value.op.name.removeprefix("ondevice.") for binding in calls]
        assert sorted(set(names)) == ["avg_pool2d", "clip", "conv2d"]
        assert len([name for name in names if name != "clip"]) == steps


def test_a_norm_of_its_own_is_a_layer_that_trains(tmp_path: Path) -> None:
    parameters = load_model(norms().save(tmp_path)).parameters
    names = {name.rpartition(".")[0] for name in parameters}
    assert names == {"first", "stem", "second", "next", "fc"}
    assert parameters["second.weight"].shape == (4, 1, 1, 1)


@pytest.mark.parametrize("case", ["value", "reader", "channels", "cropping"])
def test_a_pad_that_is_no_padding_of_convolutions_alone_stays(case: str) -> None:
    pads = [0, 0, 1, 1, 0, 0, 1, -1 if case == "cropping" else 1]
    pads[1] = int(case == "channels")
    g = Graph()
    g.add("Pad", g.constant("pads", pads, np.int64), g.constant("fill", float(case == "value")))
    before = g.last
    g.conv("stem", 3, 4, 3)
    if case == "reader":
        g.last = before
        g.add("GlobalAveragePool")
    model = g.model()
    fold(model)
    assert [node.op_type for node in model.graph.node][:2] == ["Pad", "Conv"]
    assert not any(attribute.name == "pads" for attribute in model.graph.node[1].attribute)


def test_operators_that_tvm_lacks_are_named_with_those_that_only_we_lack(tmp_path: Path) -> None:
    g = Graph((1, 2, 4, 4))
    g.add("CumSum", g.constant("axis", 2, np.int64))
    g.add("Det")  # TVM's frontend would stop here.
    g.add("Hardmax")
    gemm(g, 2)
    with pytest.raises(UnsupportedOperatorsError) as caught:
        load_model(g.save(tmp_path))
    assert {"Det", "cumsum"} < set(caught.value.names), "and what Hardmax is made of"


def test_an_operator_of_a_domain_of_its_own_is_named(tmp_path: Path) -> None:
    g = Graph((1, 6))
    g.add("Fourier", domain="mine")
    gemm(g, 6)
    with pytest.raises(UnsupportedOperatorsError) as caught:
        load_model(g.save(tmp_path))
    assert caught.value.names == ["mine.Fourier"]


class Exotic(nn.Module):  # type: ignore[misc]
    """Operators that TVM's frontend lacks, one of them with two results, between known ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(2, 4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.special.i0(self.stem(x))
        values, _ = torch.kthvalue(torch.atan(x).flatten(2), 3)
        return self.fc(torch.lgamma(torch.erfinv(values)))


def test_operators_of_torch_that_tvm_lacks_are_all_named_at_once() -> None:
    with pytest.raises(UnsupportedOperatorsError) as caught:
        load_module(Exotic(), torch.zeros(1, 2, 6, 6))
    assert {"i0", "kthvalue", "lgamma", "erfinv"} <= set(caught.value.names)
