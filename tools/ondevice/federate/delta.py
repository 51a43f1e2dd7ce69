"""What a board sends after a round: how its trained weights changed, as bytes.

The first byte says how it is coded (`Codec`); what follows is in the device's own integers, tensor
after tensor in the manifest's order. docs/compression.md has the layouts. Only trained weights are
in it: a weight that the update scheme leaves alone costs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.federate.weights import WeightFormat, Weights, weight_formats

CHANGE_DTYPES = {"int16": "<i2", "int32": "<i4", "float32": "<f4"}
VARINT_BYTES = 5  # of 32 bits
SIGNS_A_BYTE = 8
TRITS_A_BYTE = 5


class Codec(IntEnum):
    """How a delta is coded; the byte that it begins with."""

    DENSE = 0
    TOPK = 1
    TERNARY = 2
    SIGN = 3
    INT8 = 4


class DeltaError(UserError):
    """Bytes that are no delta of this model."""


def encode_dense(
    formats: Sequence[WeightFormat], before: Sequence[bytes], after: Sequence[bytes]
) -> bytes:
    """The whole change, each element in the type of its weight; saturates where it would wrap.

    Args:
        formats: Of the model.
        before: The weights' bytes that the round began with, in the order of `formats`.
        after: Those that it ended with.
    """
    changes = _changes(formats, before, after)
    return bytes([Codec.DENSE]) + b"".join(change.tobytes() for change in changes)


def encode_sparse(
    formats: Sequence[WeightFormat], before: Sequence[bytes], after: Sequence[bytes]
) -> bytes:
    """The elements that changed, coded as top-k: short where they are few.

    Args:
        formats: Of the model.
        before: The weights' bytes, in the order of `formats`.
        after: Those that they became.
    """
    message, last, first = bytearray([Codec.TOPK]), -1, 0
    for form, change in zip(formats, _changes(formats, before, after), strict=True):
        flat = change.reshape(-1)
        for i in np.flatnonzero(flat.view("<i4") if form.dtype == "float32" else flat):
            _put_varint(message, first + int(i) - last - 1)
            last = first + int(i)
            if form.dtype == "float32":
                message += flat[i].tobytes()
            else:
                value = int(flat[i])
                _put_varint(message, 2 * value if value >= 0 else -2 * value - 1)
        first += form.elements
    return bytes(message)


def decode_delta(manifest: Mapping[str, Any], message: bytes) -> Weights:
    """The change of each trained weight, in real numbers.

    Args:
        manifest: Of the model that all boards of the federation run.
        message: From a board; nothing of it is trusted.

    Raises:
        DeltaError: It is of no known coding, too short or too long for the model.
    """
    formats = weight_formats(manifest)
    return tuple(
        np.asarray(change, np.float64).reshape(form.shape) * form.unit
        for form, change in zip(formats, decode_changes(formats, message), strict=True)
    )


def decode_changes(formats: Sequence[WeightFormat], message: bytes) -> list[NDArray[Any]]:
    """The change of each trained weight in the device's own steps, flat.

    Raises:
        DeltaError: As of `decode_delta`.
    """
    if not message:
        raise DeltaError("an update of 0 bytes; the board sent nothing")
    try:
        codec = Codec(message[0])
    except ValueError as error:
        known = ", ".join(f"{item.value} ({item.name.lower()})" for item in Codec)
        raise DeltaError(f"an update of coding {message[0]}; known are {known}") from error
    body = message[1:]
    if codec == Codec.TOPK:
        return _decode_topk(formats, body)
    wanted = sum(_BODY_BYTES[codec](form) for form in formats)
    if len(body) != wanted:
        raise DeltaError(
            f"a {codec.name.lower()} update of {len(body)} bytes; the model's has {wanted}"
        )
    changes, at = [], 0
    for form in formats:
        size = _BODY_BYTES[codec](form)
        changes.append(_DECODERS[codec](form, body[at : at + size]))
        at += size
    if not all(np.all(np.isfinite(change)) for change in changes):
        raise DeltaError(f"a {codec.name.lower()} update with an element that is no finite number")
    return changes


def _changes(
    formats: Sequence[WeightFormat], before: Sequence[bytes], after: Sequence[bytes]
) -> list[NDArray[Any]]:
    changes = []
    for form, old, new in zip(formats, before, after, strict=True):
        dtype = CHANGE_DTYPES[form.dtype]
        first, last = np.frombuffer(old, dtype), np.frombuffer(new, dtype)
        if form.dtype == "float32":
            changes.append(last - first)
            continue
        limits = np.iinfo(dtype)
        change = np.clip(last.astype(np.int64) - first, limits.min, limits.max)
        changes.append(change.astype(dtype))
    return changes


def _dense(form: WeightFormat, body: bytes) -> NDArray[Any]:
    return np.frombuffer(body, CHANGE_DTYPES[form.dtype])


def _level(form: WeightFormat, body: bytes) -> Any:
    return np.frombuffer(body[:4], "<f4" if form.dtype == "float32" else "<i4")[0]


def _ternary(form: WeightFormat, body: bytes) -> NDArray[Any]:
    packed = np.frombuffer(body[4:], np.uint8)
    if np.any(packed >= 3**TRITS_A_BYTE):
        raise DeltaError("a ternary update with a byte that is no five ternary digits")
    digits = (packed[:, None] // 3 ** np.arange(TRITS_A_BYTE)) % 3
    signs = np.array([0.0, 1.0, -1.0])[digits.reshape(-1)[: form.elements]]
    return np.asarray(signs * float(_level(form, body)))


def _sign(form: WeightFormat, body: bytes) -> NDArray[Any]:
    bits = np.unpackbits(np.frombuffer(body[4:], np.uint8), bitorder="little")[: form.elements]
    return np.where(bits == 1, -1.0, 1.0) * float(_level(form, body))


def _int8(form: WeightFormat, body: bytes) -> NDArray[Any]:
    exponent = int(np.frombuffer(body[:1], np.int8)[0])
    return np.ldexp(np.frombuffer(body[1:], np.int8).astype(np.float64), exponent)


_BODY_BYTES: Mapping[Codec, Callable[[WeightFormat], int]] = {
    Codec.DENSE: lambda form: form.size_bytes,
    Codec.TERNARY: lambda form: 4 + -(-form.elements // TRITS_A_BYTE),
    Codec.SIGN: lambda form: 4 + -(-form.elements // SIGNS_A_BYTE),
    Codec.INT8: lambda form: 1 + form.elements,
}
_DECODERS = {
    Codec.DENSE: _dense,
    Codec.TERNARY: _ternary,
    Codec.SIGN: _sign,
    Codec.INT8: _int8,
}


def _decode_topk(formats: Sequence[WeightFormat], body: bytes) -> list[NDArray[Any]]:
    changes = [np.zeros(form.elements) for form in formats]
    ends = np.cumsum([form.elements for form in formats])
    at, index = 0, -1
    while at < len(body):
        skipped, at = _take_varint(body, at)
        index += skipped + 1
        if index >= ends[-1]:
            raise DeltaError(
                f"a top-k update of element {index}; the model has {ends[-1]} trained ones"
            )
        which = int(np.searchsorted(ends, index, side="right"))
        form, i = formats[which], index - int(ends[which]) + formats[which].elements
        if form.dtype != "float32":
            value, at = _take_varint(body, at)
            changes[which][i] = value // 2 if value % 2 == 0 else -(value + 1) // 2
            continue
        if at + 4 > len(body):
            raise DeltaError("a top-k update that ends within an element")
        changes[which][i] = np.frombuffer(body[at : at + 4], "<f4")[0]
        if not np.isfinite(changes[which][i]):
            raise DeltaError("a top-k update with an element that is no finite number")
        at += 4
    return changes


def _put_varint(message: bytearray, value: int) -> None:
    while value >= 0x80:
        message.append(value & 0x7F | 0x80)
        value >>= 7
    message.append(value)


def _take_varint(body: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number of at most 32 bits, and where it ends."""
    value = 0
    for place in range(VARINT_BYTES):
        if at >= len(body):
            raise DeltaError("a top-k update that ends within an element")
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if value >= 2**32:
                break
            return value, at
    raise DeltaError("a top-k update with a number of more than 32 bits")
