"""Normal form of a file that already has feature maps in N, H, W, C order, and maybe scales.

Operators are recorded first and emitted at the end, so that a loader can stop at any point. The
file's own scales travel as attributes of the calls: `y_scale` and `y_zero` of what a call writes,
`w_scale` of a convolution's weight; `quantize` then uses them instead of calibration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

import ondevice_compiler.ops  # noqa: F401  (registers the operators)
from ondevice_compiler.kernel_builder import LARGEST_FLOAT32
from ondevice_compiler.load.normal_form import LoadedModel
from ondevice_compiler.ops.operator import call
from ondevice_compiler.program import Quantization

Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class Map:
    """A feature map.

    Attributes:
        index: Of the operation that writes it; -1 for the input.
        shape: [1, H, W, C].
        quantization: Its int8 scale in the file; None in a float32 file.
        padding: Zeros around it that the next convolution takes up: top, left, bottom, right.
    """

    index: int
    shape: tuple[int, ...]
    quantization: Quantization | None
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True)
class Weights:
    """Parameters of a convolution.

    Attributes:
        weight: Integers of the file, or float32; [O, kh, kw, I / groups].
        bias: Integers in units of input scale times weight scale, or float32; [O].
        scale: Of each output channel; None in a float32 file.
    """

    weight: NDArray[Any]
    bias: NDArray[Any]
    scale: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class _Operation:
    name: str
    inputs: tuple[int, ...]
    parameters: tuple[str, ...]
    attributes: dict[str, Any]


class KeptScales:
    """Records operations on feature maps."""

    def __init__(self, shape: tuple[int, ...], quantization: Quantization | None) -> None:
        self.input = Map(-1, shape, quantization)
        self.parameters: dict[str, NDArray[np.float32]] = {}
        self._operations: list[_Operation] = []

    def convolution(
        self,
        x: Map,
        name: str,
        weights: Weights,
        stride: tuple[int, int],
        padding: Padding,
        groups: int = 1,
        output: Quantization | None = None,
        clip: tuple[float, float] | None = None,
    ) -> Map:
        """conv2d with bias, then a clip where `clip` gives bounds."""
        weight, bias = weights.weight, weights.bias
        attributes: dict[str, Any] = {"stride": list(stride), "groups": groups}
        around = tuple(a + b for a, b in zip(padding, x.padding, strict=True))
        attributes["padding"] = list(around)
        if weights.scale is not None:
            scale = np.broadcast_to(weights.scale, (weight.shape[0],))
            attributes["w_scale"] = scale.tolist()
            weight = weight * scale.reshape(-1, 1, 1, 1)
            if x.quantization is not None and bias.dtype.kind == "i":
                bias = bias * (x.quantization.scales * scale)
        self.parameters[f"{name}.weight"] = np.ascontiguousarray(weight, np.float32)
        self.parameters[f"{name}.bias"] = np.ascontiguousarray(bias, np.float32)
        height = (x.shape[1] + around[0] + around[2] - weight.shape[1]) // stride[0] + 1
        width = (x.shape[2] + around[1] + around[3] - weight.shape[2]) // stride[1] + 1
        shape = (1, height, width, weight.shape[0])
        names = (f"{name}.weight", f"{name}.bias")
        return self._clipped("conv2d", (x,), shape, attributes, output, clip, names)

    def add(
        self,
        a: Map,
        b: Map,
        output: Quantization | None = None,
        clip: tuple[float, float] | None = None,
    ) -> Map:
        """Sum of two maps of one shape."""
        return self._clipped("add", (a, b), a.shape, {}, output, clip)

    def pool(
        self,
        kind: str,
        x: Map,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: Padding,
        output: Quantization | None = None,
        clip: tuple[float, float] | None = None,
    ) -> Map:
        """`kind` is "avg_pool2d" or "max_pool2d"."""
        height = (x.shape[1] + padding[0] + padding[2] - kernel[0]) // stride[0] + 1
        width = (x.shape[2] + padding[1] + padding[3] - kernel[1]) // stride[1] + 1
        attributes = {"kernel": list(kernel), "stride": list(stride), "padding": list(padding)}
        shape = (1, height, width, x.shape[3])
        return self._clipped(kind, (x,), shape, attributes, output, clip)

    def global_average(self, x: Map, output: Quantization | None = None) -> Map:
        """Mean over the whole map."""
        return self.pool("avg_pool2d", x, x.shape[1:3], (1, 1), (0, 0, 0, 0), output)  # type: ignore[arg-type]

    def clip(self, x: Map, bounds: tuple[float, float], output: Quantization | None = None) -> Map:
        """min(max(x, low), high)."""
        low, high = bounds
        attributes = {"low": float(low), "high": float(min(high, LARGEST_FLOAT32))}
        return self._record("clip", (x,), x.shape, attributes, output)

    def _clipped(
        self,
        name: str,
        inputs: tuple[Map, ...],
        shape: tuple[int, ...],
        attributes: dict[str, Any],
        output: Quantization | None,
        clip: tuple[float, float] | None,
        parameters: tuple[str, ...] = (),
    ) -> Map:
        x = self._record(name, inputs, shape, attributes, output, parameters)
        return x if clip is None else self.clip(x, clip, output)

    def _record(
        self,
        name: str,
        inputs: tuple[Map, ...],
        shape: tuple[int, ...],
        attributes: dict[str, Any],
        output: Quantization | None,
        parameters: tuple[str, ...] = (),
    ) -> Map:
        if output is not None:
            attributes = {
                **attributes,
                "y_scale": output.scale[0],
                "y_zero": output.zero_point,
            }
        sources = tuple(x.index for x in inputs)
        self._operations.append(_Operation(name, sources, parameters, attributes))
        return Map(len(self._operations) - 1, shape, output)

    def finish(
        self,
        output: Map,
        source_shape: tuple[int, ...],
        input_axes: tuple[int | None, ...],
        source: str,
    ) -> LoadedModel:
        """Emits what was recorded; see `LoadedModel` for the arguments."""
        builder = relax.BlockBuilder()
        x = relax.Var("x", relax.TensorType(self.input.shape, "float32"))
        variables = {
            name: relax.Var(name, relax.TensorType(value.shape, "float32"))
            for name, value in self.parameters.items()
        }
        maps: dict[int, Any] = {-1: x}
        with builder.function("main"):
            with builder.dataflow():
                for index, operation in enumerate(self._operations):
                    arguments = [maps[i] for i in operation.inputs]
                    arguments += [variables[name] for name in operation.parameters]
                    node = call(operation.name, *arguments, **operation.attributes)
                    maps[index] = builder.emit(node)
                result = builder.emit_output(maps[output.index])
            builder.emit_func_output(result, params=[x, *variables.values()])
        loaded = LoadedModel(builder.get(), self.parameters, source_shape, input_axes, source)
        return replace(loaded, input_quantization=self.input.quantization)
