"""Rewrites an imported Relax function into the normal form.

The normal form has only our own operators on feature maps of shape [1, H, W, C]:

* a 1-D map is one of height 1; a vector is one of height and width 1;
* a linear layer is a convolution whose window is the whole map, so that flattening, squeezing and
  transposing need no operator: they only change how the axes of the user's tensor map to ours;
* batch norm is folded into the convolution before it, and ReLU, ReLU6 and ONNX's Clip are `clip`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

import ondevice_compiler.ops  # noqa: F401  (registers the operators)
from ondevice_compiler.curve import Curve
from ondevice_compiler.errors import UnsupportedOperatorsError, UserError
from ondevice_compiler.load.batch_norm import BatchNorm
from ondevice_compiler.ops.operator import call, shape_of
from ondevice_compiler.program import Quantization

UNKNOWN = object()  # what an unsupported operator gives
INPUT_DTYPES = {"float32": "float32", "int32": "int32", "int64": "int32"}  # and what it becomes
AXES_BY_RANK = {2: ("N", "C"), 3: ("N", "C", "W"), 4: ("N", "C", "H", "W")}


@dataclass(frozen=True)
class LoadedModel:
    """A model in normal form.

    Attributes:
        module: Relax module; `main(x, *parameters)` gives the output, shape [1, H, W, C].
        parameters: Values, float32, by name, in the order of main's parameters.
        source_shape: Shape of the user's input tensor.
        input_axes: For each axis of [1, H, W, C], the axis of the user's tensor, or None for an
            axis of size 1 that the user's tensor does not have.
        source: Name of the file or class, for messages.
        input_quantization: Of an int8 input whose scale the file fixes; None: calibrated.
        frozen: Names of parameters that are constants of the model and never trained.
        batch_norms: Layer -> the batch norm that was folded into it.
        inserted: Layers that the update scheme added to the model.
    """

    module: tvm.IRModule
    parameters: dict[str, NDArray[np.float32]]
    source_shape: tuple[int, ...]
    input_axes: tuple[int | None, ...]
    source: str
    input_quantization: Quantization | None = None
    frozen: frozenset[str] = frozenset()
    batch_norms: Mapping[str, BatchNorm] = field(default_factory=dict)
    inserted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Convolution:
    """A convolution that may still take up a bias or a batch norm.

    `frozen` ones stand for constants of the model, such as a scale for each channel; those with an
    `output_padding` (rows, columns) are transposed.
    """

    feature: Feature
    name: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int
    frozen: bool = False
    norm: BatchNorm | None = None
    output_padding: tuple[int, int] | None = None


@dataclass(frozen=True)
class Feature:
    """A feature map: a Relax expression of shape [1, H, W, C], and how the user's axes name it.

    Attributes:
        expression: The Relax expression; None while `pending` has not been emitted.
        axes: Letters of N, H, W, C behind each axis of the user's tensor, slowest first.
        shape: [1, H, W, C].
        pending: A convolution not emitted yet.
        clip: Bounds of a clip not emitted yet.
        curve: A function of every element not emitted yet; `expression` is its argument then.
        padding: Zeros around the map not emitted yet: top, left, bottom, right; part of `shape`.
    """

    expression: Any
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    pending: Convolution | None = None
    clip: tuple[float, float] | None = None
    curve: Curve | None = None
    padding: tuple[int, int, int, int] | None = None

    def extent(self, letters: str) -> int:
        """Product of the extents of some axes."""
        return prod(self.shape["NHWC".index(letter)] for letter in letters)


class Normalizer:
    """Walks the imported function once, emitting our operators."""

    def __init__(self, source: str) -> None:
        self.builder = relax.BlockBuilder()
        self.parameters: dict[str, NDArray[np.float32]] = {}
        self.variables: list[Any] = []
        self.unsupported: set[str] = set()
        self.source = source
        self.tokens: Any = None  # the input, where it is indices of an embedding
        # What has been emitted already: a value with two readers must be computed once.
        self._convolutions: dict[int, tuple[Convolution, Any]] = {}
        self._clips: dict[tuple[Any, tuple[float, float]], Any] = {}
        self._curves: dict[tuple[Any, Curve], Any] = {}
        self._pads: dict[tuple[Any, tuple[int, ...]], Any] = {}
        self.frozen: set[str] = set()
        self.batch_norms: dict[str, BatchNorm] = {}

    def emit(self, name: str, *arguments: Any, **attributes: Any) -> Any:
        """Emits one of our operators."""
        return self.builder.emit(call(name, *arguments, **attributes))

    def parameter(self, name: str, value: NDArray[Any]) -> Any:
        """A new parameter of the normal form; a second use of a weight gets a name of its own."""
        unique, copies = name, 1
        while unique in self.parameters:
            copies += 1
            stem, _, kind = name.rpartition(".")
            unique = f"{stem}_{copies}.{kind}"
        self.parameters[unique] = np.ascontiguousarray(value, dtype=np.float32)
        variable = relax.Var(unique, relax.TensorType(value.shape, "float32"))
        self.variables.append(variable)
        return variable

    def materialize(self, value: Feature) -> Feature:
        """Emits what is pending."""
        if value.pending is not None:
            key = id(value.pending)
            if key not in self._convolutions:
                self._convolutions[key] = (value.pending, self._convolution(value.pending))
            value = replace(value, expression=self._convolutions[key][1], pending=None)
        if value.clip is not None:
            low, high = value.clip
            clip = (value.expression, value.clip)
            if clip not in self._clips:
                bounds = {"low": float(low), "high": float(high)}
                self._clips[clip] = self.emit("clip", value.expression, **bounds)
            value = replace(value, expression=self._clips[clip], clip=None)
        if value.curve is not None:
            key_ = (value.expression, value.curve)
            if key_ not in self._curves:
                self._curves[key_] = self.emit("lookup", value.expression, curve=str(value.curve))
            value = replace(value, expression=self._curves[key_], curve=None)
        if value.padding is not None:
            pad = (value.expression, value.padding)
            if pad not in self._pads:
                top, left, bottom, right = value.padding
                sides = {"before": [0, top, left, 0], "after": [0, bottom, right, 0]}
                self._pads[pad] = self.emit("pad", value.expression, **sides, value=0.0)
            value = replace(value, expression=self._pads[pad], padding=None)
        return value

    def _convolution(self, node: Convolution) -> Any:
        weight = self.parameter(f"{node.name}.weight", node.weight)
        bias = self.parameter(f"{node.name}.bias", node.bias)
        if node.frozen:
            self.frozen |= {weight.name, bias.name}
        if node.norm is not None and node.norm.is_in(node.weight, node.bias):
            self.batch_norms[weight.name.removesuffix(".weight")] = node.norm
        geometry: dict[str, Any] = {
            "stride": list(node.stride),
            "padding": list(node.padding),
            "groups": node.groups,
        }
        name = "conv2d"
        if node.output_padding is not None:
            name, geometry["output_padding"] = "conv2d_transpose", list(node.output_padding)
        x = self.materialize(node.feature).expression
        return self.emit(name, x, weight, bias, **geometry)


def normalize(module: tvm.IRModule, source: str, unknown: Sequence[str] = ()) -> LoadedModel:
    """Rewrites the function `main` of an imported module.

    Args:
        module: From TVM's torch or ONNX frontend, parameters as inputs.
        source: Name for messages.
        unknown: Operators that the frontend lacks; then inputs behind the first stand for what
            they give.

    Returns:
        The normal form.

    Raises:
        UnsupportedOperatorsError: Names every operator that is not supported, at once.
        UserError: A batch other than 1, or a shape that the normal form cannot hold.
    """
    from ondevice_compiler.load.idioms import simplify
    from ondevice_compiler.load.rules import RULES
    from ondevice_compiler.load.rules.rule import constant_value

    module, bound = relax.frontend.detach_params(simplify(module))
    function = module["main"]
    values: dict[Any, Any] = {}
    count = int(function.attrs["num_input"]) if function.attrs else 1
    data, weights = function.params[:count], function.params[count:]
    for stand_in in data[1:] if unknown else ():
        values[stand_in] = UNKNOWN
    if len(data) != 1 and not unknown:
        raise UserError(f"{source} has {len(data)} inputs; allowed: one")
    for variable, array in zip(weights, bound["main"], strict=True):
        values[variable] = Named(array.numpy(), layer_name(variable.name))
    try:
        source_shape = shape_of(data[0])
    except TypeError as error:  # A symbolic extent is no integer.
        raise UserError(
            f"{source}: the input has a dynamic dimension; "
            "export the model with fixed sizes and batch 1"
        ) from error
    dtype = INPUT_DTYPES.get(str(data[0].ty.dtype))
    if dtype is None:
        raise UserError(
            f"{source}: input has dtype {data[0].ty.dtype}; allowed: {', '.join(INPUT_DTYPES)} "
            "(integers: token indices of an embedding)"
        )
    if len(source_shape) not in AXES_BY_RANK or source_shape[0] != 1:
        raise UserError(
            f"{source}: input has shape {list(source_shape)}; allowed: [1, features], "
            "[1, channels, length] or [1, channels, height, width] (batch 1)"
        )
    axes = AXES_BY_RANK[len(source_shape)]
    input_axes = tuple(axes.index(letter) if letter in axes else None for letter in "NHWC")
    shape = tuple(1 if axis is None else source_shape[axis] for axis in input_axes)

    normalizer = Normalizer(source)
    normalizer.unsupported.update(unknown)
    x = relax.Var("x", relax.TensorType(shape, dtype))
    normalizer.tokens = x if dtype == "int32" else None
    values[data[0]] = Feature(x, axes, shape)
    result: Any = None

    def value_of(expression: Any) -> Any:
        found = values.get(expression) if isinstance(expression, relax.Var) else None
        return constant_value(expression) if found is None else found

    with normalizer.builder.function("main"):
        with normalizer.builder.dataflow():
            for block in function.body.blocks:
                for binding in block.bindings:
                    rule = RULES.get(_kind(binding.value), RULES["unsupported"])
                    lost = any(value_of(read) is UNKNOWN for read in _reads(binding.value))
                    if lost and rule is not RULES["unsupported"]:
                        values[binding.var] = UNKNOWN  # its cause has been named already
                        continue
                    values[binding.var] = rule(normalizer, binding.value, value_of)
            result = value_of(function.body.body)
            # The builder must be closed properly before an error can be raised.
            known = isinstance(result, Feature)
            output = normalizer.builder.emit_output(
                normalizer.materialize(result).expression if known else x
            )
        normalizer.builder.emit_func_output(output, params=[x, *normalizer.variables])
    if normalizer.unsupported:
        raise UnsupportedOperatorsError(sorted(normalizer.unsupported), source)
    if not isinstance(result, Feature):
        raise UserError(f"{source}: the output does not depend on the input")
    return LoadedModel(
        normalizer.builder.get(),
        normalizer.parameters,
        source_shape,
        input_axes,
        source,
        frozen=frozenset(normalizer.frozen),
        batch_norms=normalizer.batch_norms,
    )


@dataclass(frozen=True)
class Named:
    """A constant with the name of the layer it belongs to."""

    value: NDArray[Any]
    name: str


def layer_name(parameter: str) -> str:
    """`p_stem_weight` or `stem_weight` -> `stem`."""
    name = parameter.removeprefix("p_")
    for suffix in ("_weight", "_bias", ".weight", ".bias"):
        name = name.removesuffix(suffix)
    return name


def _reads(expression: Any) -> list[Any]:
    """Variables that a binding's value reads, those in tuples included."""
    if isinstance(expression, relax.Var):
        return [expression]
    if isinstance(expression, relax.TupleGetItem):
        return _reads(expression.tuple_value)
    fields = getattr(expression, "fields", None)
    children = expression.args if isinstance(expression, tvm.ir.Call) else fields or ()
    return [variable for child in children for variable in _reads(child)]


def _kind(expression: Any) -> str:
    if isinstance(expression, relax.Var):
        return "alias"
    if isinstance(expression, relax.TupleGetItem):
        return "item"
    if isinstance(expression, relax.Tuple):
        return "tuple"
    if isinstance(expression, tvm.ir.Call):
        name = getattr(expression.op, "name", "")
        if name == "relax.call_tir":
            return "tir." + str(expression.args[0].name_hint).rstrip("0123456789_")
        return str(name)
    return "constant"
