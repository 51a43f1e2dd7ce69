"""TFLite files, int8 or float32, to the normal form. Their scales and zero points are kept.

TFLite's maps are N, H, W, C already, so that reshapes that flatten a map, or drop axes of extent 1,
need no operator. Source of the integer semantics: TensorFlow's quantization_spec.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UnsupportedOperatorsError, UserError
from ondevice_compiler.kernel_builder import LARGEST_FLOAT32
from ondevice_compiler.load.kept_scales import KeptScales, Map, Padding, Weights
from ondevice_compiler.load.normal_form import LoadedModel
from ondevice_compiler.load.rules.pool import LARGEST_ARGMAX_WINDOW
from ondevice_compiler.load.tflite_file import FileGraph, FileOperator, FileTensor, read_tflite
from ondevice_compiler.program import Quantization

SAME, VALID = 0, 1
NO_PADDING: Padding = (0, 0, 0, 0)
CLIPS = {
    0: None,
    1: (0.0, LARGEST_FLOAT32),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
}  # By fused activation: none, RELU, RELU_N1_TO_1, RELU6.
INPUT_AXES: dict[int, tuple[int | None, ...]] = {
    2: (0, None, None, 1),
    3: (0, None, 1, 2),
    4: (0, 1, 2, 3),
}  # Of N, H, W, C, by rank.
AT_THE_END = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE")  # What may follow a softmax.


class _Unsupported(Exception):  # noqa: N818  (found, named with the others, and not raised on)
    """What an operator needs that the normal form has not."""


def load_tflite(path: Path) -> LoadedModel:
    """Loads a `.tflite` file; a softmax at its end is dropped, since it is part of the loss.

    Raises:
        UnsupportedOperatorsError: Names every operator that is not supported, at once.
        UserError: Malformed, several inputs or outputs, or a batch other than 1.
    """
    graph = read_tflite(path)
    for kind, indices in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        if len(indices) != 1:
            raise UserError(f"{path} has {len(indices)} {kind}; allowed: one")
    source = graph.tensors[graph.inputs[0]]
    if len(source.shape) not in INPUT_AXES or source.shape[0] != 1 or min(source.shape) < 1:
        raise UserError(
            f"{path}: input {source.name} has shape {list(source.shape)}; allowed: [1, features], "
            "[1, length, channels] or [1, height, width, channels] (batch 1)"
        )
    unknown = {operator.name for operator in graph.operators if operator.name not in RULES}
    walker = _Walker(graph)
    for operator in graph.operators:
        if operator.name in RULES:
            walker.run(operator)
    if unknown or walker.unsupported:
        raise UnsupportedOperatorsError(sorted(unknown | walker.unsupported), path.name)
    output = walker.maps.get(graph.outputs[0])
    if output is None or output.index < 0:
        raise UserError(f"{path}: the output does not depend on the input")
    return walker.form.finish(output, source.shape, INPUT_AXES[len(source.shape)], path.name)


class _Walker:
    """Runs the rule of each operator in turn."""

    def __init__(self, graph: FileGraph) -> None:
        self.graph = graph
        self.unsupported: set[str] = set()
        self.layers: dict[str, int] = {}
        self.constants: dict[int, NDArray[Any]] = {
            index: tensor.value
            for index, tensor in enumerate(graph.tensors)
            if tensor.value is not None
        }
        (source,) = graph.inputs
        tensor = graph.tensors[source]
        for reader in graph.operators:
            if reader.name == "QUANTIZE" and reader.inputs == (source,):
                tensor = graph.tensors[reader.outputs[0]]
        quantization = None
        if graph.operators:
            try:
                quantization = quantization_of(tensor)
            except _Unsupported as error:
                self.unsupported.add(str(error))
        self.form = KeptScales(map_shape(graph.tensors[source].shape), quantization)
        self.maps: dict[int, Map] = {source: self.form.input}

    def run(self, operator: FileOperator) -> None:
        """Applies the operator's rule; what only follows from an unsupported one is passed by."""
        constant = self.constants.get(operator.inputs[0]) if operator.inputs else None
        read = [i for i in operator.inputs if i >= 0 and i not in self.constants]
        if any(index not in self.maps for index in read):
            return
        try:
            if constant is not None and operator.name == "DEQUANTIZE":
                tensor = self.graph.tensors[operator.inputs[0]]
                self.constants[operator.outputs[0]] = dequantized(tensor, constant)
                return
            if constant is not None or not read or len(operator.outputs) != 1:
                raise _Unsupported(f"{operator.name} of a constant")
            self.maps[operator.outputs[0]] = RULES[operator.name](self, operator)
        except _Unsupported as error:
            self.unsupported.add(str(error))

    def tensor(self, index: int) -> FileTensor:
        """A tensor of the file."""
        return self.graph.tensors[index]

    def constant(self, operator: FileOperator, position: int) -> NDArray[Any]:
        """A constant input."""
        index = operator.inputs[position] if position < len(operator.inputs) else -1
        if index not in self.constants:
            raise _Unsupported(f"{operator.name} whose input {position} is computed")
        return self.constants[index]

    def layer(self, kind: str) -> str:
        """`conv1`, `conv2`, ..."""
        self.layers[kind] = self.layers.get(kind, 0) + 1
        return f"{kind}{self.layers[kind]}"

    def output(self, operator: FileOperator) -> Quantization | None:
        """Scale of what an operator writes."""
        return quantization_of(self.tensor(operator.outputs[0]))


def map_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[1, H, W, C] behind a tensor of rank 1 to 4."""
    return (1,) * (4 - len(shape)) + shape


def quantization_of(tensor: FileTensor) -> Quantization | None:
    """Scale of an activation; None for float32."""
    if tensor.dtype == "float32":
        return None
    if tensor.dtype != "int8" or len(tensor.scale) != 1 or len(tensor.zero_point) != 1:
        raise _Unsupported(f"an activation of {tensor.dtype}, not float32 or int8 with one scale")
    if tensor.scale[0] == 0 or not -128 <= tensor.zero_point[0] <= 127:
        raise _Unsupported("an activation whose scale is 0 or whose zero point is no int8")
    return Quantization((float(tensor.scale[0]),), int(tensor.zero_point[0]))


def dequantized(tensor: FileTensor, value: NDArray[Any]) -> NDArray[Any]:
    """A constant in real units."""
    if len(tensor.scale) > 1:
        raise _Unsupported("DEQUANTIZE of a constant with a scale for each channel")
    if not len(tensor.scale):
        return value.astype(np.float32)  # float16
    units = value.astype(np.float64) - tensor.zero_point
    return np.asarray(units * tensor.scale, np.float32)


def _weights(
    walker: _Walker, operator: FileOperator, weight: NDArray[Any], shape: tuple[int, ...]
) -> Weights:
    """Weight, brought to [O, kh, kw, I / groups], and bias of a convolution."""
    tensor = walker.tensor(operator.inputs[1])
    count = shape[0]
    scale = None
    if weight.dtype == np.int8:
        if np.any(tensor.zero_point != 0) or len(tensor.scale) not in (1, count):
            raise _Unsupported(f"{operator.name} whose weight has a zero point or no scale")
        scale = tensor.scale
    elif weight.dtype != np.float32:
        raise _Unsupported(f"{operator.name} with a weight of {weight.dtype}")
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        bias: NDArray[Any] = np.zeros(count, np.int32 if scale is not None else np.float32)
    else:
        bias = walker.constant(operator, 2).reshape(-1)
    if bias.size != count or bias.dtype not in (np.int32, np.float32):
        raise _Unsupported(f"{operator.name} with a bias of {bias.size} x {bias.dtype}")
    if bias.dtype == np.int32 and (
        scale is None or walker.maps[operator.inputs[0]].quantization is None
    ):
        if np.any(bias):
            raise _Unsupported(f"{operator.name} with an integer bias on a float32 input")
        bias = bias.astype(np.float32)
    return Weights(weight.reshape(shape), bias, scale)


def _read(walker: _Walker, operator: FileOperator, padded: bool = False) -> Map:
    """The first input; only a convolution takes up a PAD before it."""
    x = walker.maps[operator.inputs[0]]
    if not padded and x.padding != NO_PADDING:
        raise _Unsupported("PAD that no convolution follows")
    return x


def _read_map(walker: _Walker, operator: FileOperator, padded: bool = False) -> Map:
    """The first input of an operator that tells its axes apart."""
    x = _read(walker, operator, padded)
    shape = walker.tensor(operator.inputs[0]).shape
    if map_shape(shape) != x.shape and x.padding == NO_PADDING:
        raise _Unsupported(f"{operator.name} of {list(shape)}, reshaped from {list(x.shape)}")
    return x


def _around(
    operator: FileOperator, x: Map, kernel: tuple[int, int], stride: tuple[int, int]
) -> Padding:
    """Padding of a window, from the schema's SAME or VALID."""
    if operator.options["Padding"] == VALID:
        return NO_PADDING
    before, after = [], []
    for extent, k, s in zip(x.shape[1:3], kernel, stride, strict=True):
        total = max((-(-extent // s) - 1) * s + k - extent, 0)
        before.append(total // 2)
        after.append(total - total // 2)
    return (before[0], before[1], after[0], after[1])


def _stride(operator: FileOperator) -> tuple[int, int]:
    stride = (operator.options["StrideH"], operator.options["StrideW"])
    if min(stride) < 1:
        raise _Unsupported(f"{operator.name} with stride {list(stride)}")
    return stride


def _fused(operator: FileOperator) -> tuple[float, float] | None:
    code = operator.options["FusedActivationFunction"]
    if code not in CLIPS:
        raise _Unsupported(f"{operator.name} with fused activation {code}")
    return CLIPS[code]


def _convolution(walker: _Walker, operator: FileOperator) -> Map:
    x = _read_map(walker, operator, padded=True)
    weight = walker.constant(operator, 1)
    dilation = [operator.options[key] for key in ("DilationHFactor", "DilationWFactor")]
    if dilation != [1, 1]:
        raise _Unsupported(f"{operator.name} with dilation {dilation}")
    depthwise = operator.name == "DEPTHWISE_CONV_2D"
    if weight.ndim != 4:
        raise _Unsupported(f"{operator.name} with a weight of rank {weight.ndim}")
    if depthwise:
        weight = weight.transpose(3, 1, 2, 0)
    groups = x.shape[3] // weight.shape[3] if weight.shape[3] else 0
    if groups * weight.shape[3] != x.shape[3] or weight.shape[0] % max(groups, 1):
        raise _Unsupported(f"{operator.name} whose weight does not fit its input")
    stride, kernel = _stride(operator), (weight.shape[1], weight.shape[2])
    return walker.form.convolution(
        x,
        walker.layer("dw" if depthwise else "conv"),
        _weights(walker, operator, weight, weight.shape),
        stride,
        _around(operator, x, kernel, stride),
        groups,
        walker.output(operator),
        _fused(operator),
    )


def _fully_connected(walker: _Walker, operator: FileOperator) -> Map:
    """A convolution whose window is the whole map: flattening keeps the order in memory."""
    x = _read(walker, operator)
    weight = walker.constant(operator, 1)
    if operator.options["WeightsFormat"] or weight.ndim != 2 or weight.shape[1] != prod(x.shape):
        raise _Unsupported("FULLY_CONNECTED with shuffled weights or over one axis of several")
    shape = (weight.shape[0], *x.shape[1:])
    return walker.form.convolution(
        x,
        walker.layer("fc"),
        _weights(walker, operator, weight, shape),
        (1, 1),
        NO_PADDING,
        1,
        walker.output(operator),
        _fused(operator),
    )


def _add(walker: _Walker, operator: FileOperator) -> Map:
    a = _read_map(walker, operator)
    b = walker.maps.get(operator.inputs[1])
    if b is None or a.shape != b.shape or b.padding != NO_PADDING:
        raise _Unsupported("ADD of a constant or of maps of different shape")
    return walker.form.add(a, b, walker.output(operator), _fused(operator))


def _pool(kind: str) -> Callable[[_Walker, FileOperator], Map]:
    def rule(walker: _Walker, operator: FileOperator) -> Map:
        x = _read_map(walker, operator)
        kernel = (operator.options["FilterHeight"], operator.options["FilterWidth"])
        stride = _stride(operator)
        around = _around(operator, x, kernel, stride)
        if kind == "avg_pool2d" and around != NO_PADDING:
            raise _Unsupported("AVERAGE_POOL_2D with padding, which it does not count")
        if kind == "max_pool2d" and prod(kernel) > LARGEST_ARGMAX_WINDOW:
            raise _Unsupported(f"MAX_POOL_2D with a window of {prod(kernel)} elements, above 256")
        output = walker.output(operator)
        return walker.form.pool(kind, x, kernel, stride, around, output, _fused(operator))

    return rule


def _mean(walker: _Walker, operator: FileOperator) -> Map:
    x = _read_map(walker, operator)
    rank = len(walker.tensor(operator.inputs[0]).shape)
    axes = {int(a) % rank + 4 - rank for a in walker.constant(operator, 1).reshape(-1)}
    spatial = {axis for axis in (1, 2) if x.shape[axis] > 1}
    if 3 in axes or not spatial <= axes:
        raise _Unsupported("MEAN over channels or over a part of the map")
    return walker.form.global_average(x, walker.output(operator))


def _pad(walker: _Walker, operator: FileOperator) -> Map:
    x = _read_map(walker, operator)
    amounts = walker.constant(operator, 1)
    if amounts.shape != (4, 2) or np.any(amounts[[0, 3]]) or np.any(amounts < 0):
        raise _Unsupported("PAD of other axes than height and width")
    top, left, bottom, right = (int(amounts[i, j]) for i, j in ((1, 0), (2, 0), (1, 1), (2, 1)))
    return Map(x.index, x.shape, x.quantization, (top, left, bottom, right))


def _view(walker: _Walker, operator: FileOperator) -> Map:
    """A reshape that flattens the map or moves axes of extent 1."""
    x = _read(walker, operator)
    shape = walker.tensor(operator.outputs[0]).shape
    wide = tuple(extent for extent in shape if extent > 1)
    flat = wide == (prod(x.shape),) or (not wide and prod(x.shape) == 1)
    if not flat and wide != tuple(extent for extent in x.shape if extent > 1):
        raise _Unsupported(f"{operator.name} from {list(x.shape)} to {list(shape)}")
    return x


def _clip(bounds: tuple[float, float]) -> Callable[[_Walker, FileOperator], Map]:
    return lambda walker, operator: walker.form.clip(
        _read(walker, operator), bounds, walker.output(operator)
    )


def _softmax(walker: _Walker, operator: FileOperator) -> Map:
    readers = [o.name for o in walker.graph.operators if operator.outputs[0] in o.inputs]
    if any(name not in AT_THE_END for name in readers):
        raise _Unsupported("SOFTMAX before the end")
    return _read(walker, operator)


def _changed_scale(walker: _Walker, operator: FileOperator) -> Map:
    """QUANTIZE of the input, QUANTIZE or DEQUANTIZE of the output: only the type changes."""
    ends = operator.inputs[0] in walker.graph.inputs
    if not ends and operator.outputs[0] not in walker.graph.outputs:
        raise _Unsupported(f"{operator.name} between two layers")
    return _read(walker, operator)


RULES: dict[str, Callable[[_Walker, FileOperator], Map]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _add,
    "AVERAGE_POOL_2D": _pool("avg_pool2d"),
    "MAX_POOL_2D": _pool("max_pool2d"),
    "MEAN": _mean,
    "PAD": _pad,
    "RESHAPE": _view,
    "SQUEEZE": _view,
    "EXPAND_DIMS": _view,
    "RELU": _clip((0.0, LARGEST_FLOAT32)),
    "RELU6": _clip((0.0, 6.0)),
    "SOFTMAX": _softmax,
    "QUANTIZE": _changed_scale,
    "DEQUANTIZE": _changed_scale,
}
