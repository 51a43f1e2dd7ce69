"""A TFLite flatbuffer as plain data. Source of the format: tensorflow/lite/schema/schema.fbs."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UserError

IDENTIFIER = b"TFL3"  # Bytes 4 to 7 of every file.
DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
CUSTOM = 32  # Builtin code of an operator that only its author knows.
_WINDOW = ("Padding", "StrideH", "StrideW", "FusedActivationFunction")
_DILATION = ("DilationHFactor", "DilationWFactor")
OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", (*_WINDOW, *_DILATION)),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_WINDOW, *_DILATION)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "MAX_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction", "WeightsFormat")),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
}
MALFORMED = (
    struct.error, AttributeError, LookupError, OverflowError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class FileTensor:
    """One tensor of the file.

    Attributes:
        name: In the file.
        shape: Slowest axis first.
        dtype: NumPy's name, or "type N" for one that is not known here.
        scale: One, one a channel, or empty where the tensor is not quantised.
        zero_point: As many.
        value: Of a constant; None for an activation.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: NDArray[np.float64]
    zero_point: NDArray[np.int64]
    value: NDArray[Any] | None


@dataclass(frozen=True)
class FileOperator:
    """One operator of the file.

    Attributes:
        name: As in the schema, or the author's name of a custom operator.
        inputs: Indices of tensors; -1 for one left out.
        outputs: Indices of tensors.
        options: Of the operators in `OPTIONS`, by the schema's names.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, int]


@dataclass(frozen=True)
class FileGraph:
    """The file's one graph; operators are in the order in which they run."""

    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: Path) -> FileGraph:
    """Reads a `.tflite` file.

    Raises:
        UserError: Malformed, or with more than one graph.
    """
    tflite = _schema(path)
    content = path.read_bytes()
    if content[4:8] != IDENTIFIER:
        raise UserError(f"{path} is no TFLite file: bytes 4 to 7 are not {IDENTIFIER.decode()}")
    try:
        model = tflite.Model.GetRootAs(content, 0)
        graphs = model.SubgraphsLength()
        if graphs != 1:
            raise UserError(f"{path} holds {graphs} graphs; allowed: one (no control flow)")
        return _read_graph(tflite, model, model.Subgraphs(0), len(content))
    except MALFORMED as error:
        kind = type(error).__name__
        raise UserError(f"{path} is a malformed TFLite file: {kind}: {error}") from error


def _schema(path: Path) -> Any:
    try:
        import tflite
    except ImportError as error:
        raise UserError(
            f"{path}: a .tflite model needs the package 'tflite', which is not installed; "
            "install the extra 'compiler'"
        ) from error
    return tflite


def _read_graph(tflite: Any, model: Any, graph: Any, size: int) -> FileGraph:
    def count(length: int) -> range:
        # An element takes four bytes at least: a damaged length must not be counted up to.
        if length * 4 > size:
            raise ValueError(f"{length} elements in {size} bytes")
        return range(length)

    tensors = tuple(_read_tensor(model, graph.Tensors(i)) for i in count(graph.TensorsLength()))
    operators = tuple(
        _read_operator(tflite, model, graph.Operators(i)) for i in count(graph.OperatorsLength())
    )
    read = FileGraph(
        tensors, operators, _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
    )
    for operator in operators:
        if any(not -1 <= index < len(tensors) for index in (*operator.inputs, *operator.outputs)):
            raise ValueError(f"{operator.name} names a tensor that is not there")
    if any(not 0 <= index < len(tensors) for index in (*read.inputs, *read.outputs)):
        raise ValueError("an input or output is not there")
    return read


def _read_tensor(model: Any, tensor: Any) -> FileTensor:
    shape = _indices(tensor.ShapeAsNumpy())
    dtype = DTYPES.get(tensor.Type(), f"type {tensor.Type()}")
    raw = model.Buffers(tensor.Buffer()).DataAsNumpy()
    value = None
    if isinstance(raw, np.ndarray) and raw.size and dtype in DTYPES.values():
        if tensor.Sparsity() is not None:
            dtype = "sparse"
        else:
            value = np.frombuffer(raw.tobytes(), np.dtype(dtype).newbyteorder("<")).reshape(shape)
    quantization = tensor.Quantization()
    scale = zero = np.zeros(0)
    if quantization is not None and quantization.ScaleLength():
        scale = np.asarray(quantization.ScaleAsNumpy(), np.float64)
        zero = np.zeros(len(scale))
        if quantization.ZeroPointLength():
            zero = np.asarray(quantization.ZeroPointAsNumpy())
        if not np.all(np.isfinite(scale)) or np.any(scale < 0):
            raise ValueError("a scale is negative or not finite")
    name = (tensor.Name() or b"").decode("utf-8", "replace")
    return FileTensor(name, shape, dtype, scale, zero.astype(np.int64), value)


def _read_operator(tflite: Any, model: Any, operator: Any) -> FileOperator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Codes up to 126 are in the old field of one byte, as in files of old writers.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if builtin == CUSTOM:
        name = (code.CustomCode() or b"?").decode("utf-8", "replace")
    else:
        name = tflite.utils.BUILTIN_OPCODE2NAME.get(builtin, f"operator {builtin}")
    options: dict[str, int] = {}
    if name in OPTIONS:
        kind, fields = OPTIONS[name]
        table = operator.BuiltinOptions()
        if operator.BuiltinOptionsType() != getattr(tflite.BuiltinOptions, kind) or table is None:
            raise ValueError(f"{name} without {kind}")
        decoded = getattr(tflite, kind)()
        decoded.Init(table.Bytes, table.Pos)
        options = {field: int(getattr(decoded, field)()) for field in fields}
    inputs, outputs = operator.InputsAsNumpy(), operator.OutputsAsNumpy()
    return FileOperator(name, _indices(inputs), _indices(outputs), options)


def _indices(values: Any) -> tuple[int, ...]:
    """A vector of the file; the schema's reader gives 0 for one that is left out."""
    return tuple(int(v) for v in values) if isinstance(values, np.ndarray) else ()
