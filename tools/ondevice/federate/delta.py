"""What a board sends after a round: how its trained weights changed, as bytes.

The first byte says how it is coded (`Codec`); what follows is in the device's own integers, tensor
after tensor in the manifest's order. docs/federated.md has the layouts. Only trained weights are in
it: a weight that the update scheme leaves alone costs nothing.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.federate.weights import WeightFormat, Weights, weight_formats

CHANGE_DTYPES = {"int16": "<i2", "int32": "<i4", "float32": "<f4"}


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
    parts = [bytes([Codec.DENSE])]
    for form, old, new in zip(formats, before, after, strict=True):
        dtype = CHANGE_DTYPES[form.dtype]
        first, last = np.frombuffer(old, dtype), np.frombuffer(new, dtype)
        if form.dtype == "float32":
            parts.append((last - first).tobytes())
            continue
        limits = np.iinfo(dtype)
        change = np.clip(last.astype(np.int64) - first, limits.min, limits.max)
        parts.append(change.astype(dtype).tobytes())
    return b"".join(parts)


def decode_delta(manifest: Mapping[str, Any], message: bytes) -> Weights:
    """The change of each trained weight, in real numbers.

    Args:
        manifest: Of the model that all boards of the federation run.
        message: From a board; nothing of it is trusted.

    Raises:
        DeltaError: It is of no known coding, too short or too long for the model.
    """
    formats = weight_formats(manifest)
    if not message:
        raise DeltaError("an update of 0 bytes; the board sent nothing")
    try:
        codec = Codec(message[0])
    except ValueError as error:
        known = ", ".join(f"{item.value} ({item.name.lower()})" for item in Codec)
        raise DeltaError(f"an update of coding {message[0]}; known are {known}") from error
    changes = _DECODERS[codec](formats, memoryview(message)[1:])
    return tuple(
        np.asarray(change, np.float64).reshape(form.shape) * form.unit
        for form, change in zip(formats, changes, strict=True)
    )


def _decode_dense(formats: Sequence[WeightFormat], body: memoryview) -> list[NDArray[Any]]:
    wanted = sum(form.size_bytes for form in formats)
    if len(body) != wanted:
        raise DeltaError(f"a dense update of {len(body)} bytes; the model's has {wanted}")
    changes, at = [], 0
    for form in formats:
        changes.append(np.frombuffer(body[at : at + form.size_bytes], CHANGE_DTYPES[form.dtype]))
        at += form.size_bytes
    return changes


_DECODERS = {Codec.DENSE: _decode_dense}
