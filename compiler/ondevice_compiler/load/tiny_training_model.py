"""Int8 graphs of MIT's tiny-training project (MCUNet, MobileNetV2): a zip with a pickled tree.

Convolutions come with integers, scales and zero points, which are kept. ReLU6 is not stored: where
the output's zero point is -128, its range starts at 0 and saturation at both ends is the
activation, so it becomes an explicit clip, whose gradient is masked where the output saturates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UnsupportedOperatorsError, UserError
from ondevice_compiler.load.array_pickle import array_of, read_array_archive
from ondevice_compiler.load.kept_scales import KeptScales, Map, Weights
from ondevice_compiler.load.normal_form import LoadedModel
from ondevice_compiler.program import Quantization

LAYERS = (("pointwise1", "pw1"), ("depthwise", "dw"), ("pointwise2", "pw2"))
LOWEST, STEPS = -128, 255  # Of int8.
SAMPLE_AXES = (0, 2, 3, 1)  # N, H, W, C of an N, C, H, W image.


def load_tiny_training(path: Path) -> LoadedModel:
    """Reads a `.pkl` graph; its input is an image [1, channels, size, size].

    Raises:
        UserError: Malformed, of another structure, or with layers that are not supported.
    """
    tree = _Node(read_array_archive(path), path.name)
    blocks = tree.list("blocks")
    _check_supported(tree, blocks)
    first, classifier = tree.node("first_conv"), tree.node("classifier")
    size, channels = first.integer("in_shape"), first.integer("in_channel")
    input_scale = first.node("params").quantization("x")
    graph = KeptScales((1, size, size, channels), input_scale)
    x = _convolution(graph, graph.input, first, "first")
    for index, block in enumerate(blocks):
        x = _block(graph, x, block, f"block{index}")
    pooled = classifier.node("params").quantization("x")
    if x.shape[1:3] != (1, 1):
        x = graph.global_average(x, pooled)
    x = _convolution(graph, x, classifier, "classifier", is_output=True)
    return graph.finish(x, (1, channels, size, size), SAMPLE_AXES, path.name)


def _check_supported(tree: _Node, blocks: list[_Node]) -> None:
    found = set()
    if tree.get("feature_mix") is not None:
        found.add("feature_mix")
    for block in blocks:
        if block.get("se") is not None:
            found.add("se (squeeze and excitation)")
        for key, _ in LAYERS:
            layer = block.get(key)
            if isinstance(layer, dict) and layer.get("act") is not None:
                found.add(f"act {_shown(layer['act'])}")
    if found:
        raise UnsupportedOperatorsError(sorted(found), tree.name)


def _block(graph: KeptScales, x: Map, block: _Node, name: str) -> Map:
    y = x
    for key, short in LAYERS:
        if block.get(key) is not None:
            y = _convolution(graph, y, block.node(key), f"{name}.{short}")
    if block.get("residual") is None:
        return y
    if y.shape != x.shape:
        raise UserError(
            f"{block.name}: the residual adds {list(y.shape)} to {list(x.shape)}; allowed: "
            "maps of one shape"
        )
    return graph.add(y, x, block.node("residual").node("params").quantization("y"))


def _convolution(
    graph: KeptScales, x: Map, layer: _Node, name: str, is_output: bool = False
) -> Map:
    """The layer with "same" padding, and the clip that its output's range stands for."""
    parameters = layer.node("params")
    weight = parameters.array("weight", 4, "i")
    bias, scale = parameters.array("bias", 1, "i"), parameters.array("w_scales", 1, "f")
    groups, stride = layer.integer("groups"), layer.integer("stride")
    kernel = weight.shape[2:]
    if (
        weight.shape[1] * groups != x.shape[3]
        or weight.shape[0] % groups
        or len(bias) != len(weight)
        or len(scale) != len(weight)
        or any(k > extent + 2 * (k // 2) for k, extent in zip(kernel, x.shape[1:3], strict=True))
    ):
        raise UserError(
            f"{layer.name}: weight {list(weight.shape)}, bias {list(bias.shape)}, w_scales "
            f"{list(scale.shape)} and {groups} groups do not fit the input {list(x.shape)}"
        )
    if x.quantization != parameters.quantization("x"):
        raise UserError(f"{layer.name}: the input's scale differs from that of what writes it")
    output = parameters.quantization("y")
    clips = output.zero_point == LOWEST and not is_output
    return graph.convolution(
        x,
        name,
        Weights(weight.transpose(0, 2, 3, 1), bias, scale.astype(np.float64)),
        (stride, stride),
        (kernel[0] // 2, kernel[1] // 2, kernel[0] // 2, kernel[1] // 2),
        groups,
        output,
        (0.0, output.scale[0] * STEPS) if clips else None,
    )


@dataclass(frozen=True)
class _Node:
    """A dictionary of the tree; reading a field of another kind is the user's error."""

    value: Any
    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.value, dict):
            raise UserError(f"{self.name} is a {type(self.value).__name__}; allowed: a dictionary")

    def get(self, key: str) -> Any:
        return self.value.get(key)

    def node(self, key: str) -> _Node:
        return _Node(self.get(key), f"{self.name}: {key}")

    def list(self, key: str) -> list[_Node]:
        values = self.get(key)
        if not isinstance(values, list):
            raise UserError(f"{self.name}: {key} is no list")
        return [_Node(value, f"{self.name}: {key}[{i}]") for i, value in enumerate(values)]

    def integer(self, key: str) -> int:
        value = self.get(key)
        if type(value) is not int or not 1 <= value < 2**20:
            raise UserError(f"{self.name}: {key} is {_shown(value)}; allowed: 1 to {2**20 - 1}")
        return value

    def array(self, key: str, rank: int, kind: str) -> NDArray[Any]:
        found = array_of(self.get(key))
        if found is None or found.ndim != rank or found.dtype.kind != kind or not found.size:
            raise UserError(f"{self.name}: {key} is no array of rank {rank} and kind '{kind}'")
        if not np.all(np.isfinite(found)) or (kind == "f" and np.any(found <= 0)):
            raise UserError(f"{self.name}: {key} holds values that are not finite or not positive")
        return found

    def quantization(self, tensor: str) -> Quantization:
        """Scale and zero point of "x" or "y"."""
        scale, zero = self.get(f"{tensor}_scale"), self.get(f"{tensor}_zero")
        if type(scale) is not float or not 1e-9 < scale < 1e9:
            raise UserError(f"{self.name}: {tensor}_scale is {_shown(scale)}; allowed: a scale")
        if type(zero) is not int or not LOWEST <= zero <= LOWEST + STEPS:
            raise UserError(f"{self.name}: {tensor}_zero is {_shown(zero)}; allowed: int8")
        return Quantization((scale,), zero)


def _shown(value: object) -> str:
    """A value for a message; a tree may be endless."""
    return repr(value)[:40] if isinstance(value, int | float | str) else type(value).__name__
