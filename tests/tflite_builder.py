"""Writes small TFLite files with the schema's own builder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

from ondevice_compiler.load.tflite_file import OPTIONS

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9}


@dataclass(frozen=True)
class T:
    """A tensor; scales make it quantised."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    scale: tuple[float, ...] = ()
    zero: tuple[int, ...] = ()
    axis: int = 0
    value: NDArray[Any] | None = None


@dataclass(frozen=True)
class Op:
    """An operator on indices of tensors."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int] = field(default_factory=dict)


def tflite_bytes(
    tensors: list[T], operators: list[Op], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> bytes:
    """A file with one graph."""
    b = flatbuffers.Builder(1024)
    buffers = [_table(b, "Buffer", {})]
    made = []
    for index, tensor in enumerate(tensors):
        buffer = 0
        if tensor.value is not None:
            raw = np.asarray(tensor.value, tensor.dtype).tobytes()
            buffer = len(buffers)
            buffers.append(_table(b, "Buffer", {"Data": b.CreateByteVector(raw)}))
        fields: dict[str, Any] = {
            "Shape": b.CreateNumpyVector(np.asarray(tensor.shape, np.int32)),
            "Type": TYPES[tensor.dtype],
            "Buffer": buffer,
            "Name": b.CreateString(f"t{index}"),
        }
        if tensor.scale:
            scale = b.CreateNumpyVector(np.asarray(tensor.scale, np.float32))
            zeros = tensor.zero or (0,) * len(tensor.scale)
            zero = b.CreateNumpyVector(np.asarray(zeros, np.int64))
            quantization = {"Scale": scale, "ZeroPoint": zero, "QuantizedDimension": tensor.axis}
            fields["Quantization"] = _table(b, "QuantizationParameters", quantization)
        made.append(_table(b, "Tensor", fields))
    names = list(dict.fromkeys(operator.name for operator in operators))
    codes = [
        _table(
            b, "OperatorCode", {"DeprecatedBuiltinCode": code, "BuiltinCode": code, "Version": v}
        )
        for code, v in ((getattr(tflite.BuiltinOperator, name), _version(name)) for name in names)
    ]
    calls = []
    for operator in operators:
        fields = {
            "OpcodeIndex": names.index(operator.name),
            "Inputs": b.CreateNumpyVector(np.asarray(operator.inputs, np.int32)),
            "Outputs": b.CreateNumpyVector(np.asarray(operator.outputs, np.int32)),
        }
        if operator.name in OPTIONS:
            kind = OPTIONS[operator.name][0]
            fields["BuiltinOptions"] = _table(b, kind, operator.options)
            fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, kind)
        calls.append(_table(b, "Operator", fields))
    graph = {
        "Tensors": _vector(b, made),
        "Inputs": b.CreateNumpyVector(np.asarray(inputs, np.int32)),
        "Outputs": b.CreateNumpyVector(np.asarray(outputs, np.int32)),
        "Operators": _vector(b, calls),
    }
    model = {
        "Version": 3,
        "OperatorCodes": _vector(b, codes),
        "Subgraphs": _vector(b, [_table(b, "SubGraph", graph)]),
        "Buffers": _vector(b, buffers),
    }
    b.Finish(_table(b, "Model", model), b"TFL3")
    return bytes(b.Output())


def _version(name: str) -> int:
    return 3 if name in ("CONV_2D", "DEPTHWISE_CONV_2D") else 2


def _table(b: Any, kind: str, fields: dict[str, Any]) -> Any:
    start, end = getattr(tflite, f"{kind}Start"), getattr(tflite, f"{kind}End")
    start(b)
    for name, value in fields.items():
        getattr(tflite, f"{kind}Add{name}")(b, value)
    return end(b)


def _vector(b: Any, offsets: list[Any]) -> Any:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
