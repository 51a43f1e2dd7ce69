"""Samples and labels as the bytes that the device reads. Needs no TVM."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_memory_order(manifest: dict[str, Any], x: NDArray[Any]) -> NDArray[Any]:
    """A sample in the user's axis order -> [H, W, C].

    Args:
        manifest: Of the model.
        x: One sample without the batch axis, shape `source_shape[1:]`.
    """
    shape, axes = manifest["input"]["shape"], manifest["input"]["axes"]
    order = [axis - 1 for axis in axes[1:] if axis is not None]
    return np.ascontiguousarray(np.asarray(x).transpose(order)).reshape(shape[1:])


def pack_sample(manifest: dict[str, Any], x: NDArray[Any]) -> bytes:
    """One float sample as the model's input tensor: transposed and, for int8, quantised.

    Args:
        manifest: Of the model.
        x: float, shape `source_shape[1:]`, real units.

    Returns:
        `manifest["input"]["bytes"]` bytes.
    """
    values = to_memory_order(manifest, np.asarray(x, dtype=np.float32))
    entry = manifest["input"]
    if entry["dtype"] == "float32":
        return bytes(values.astype("<f4").tobytes())
    integers: NDArray[Any] = (
        np.rint(values.astype(np.float64) / entry["scale"]) + entry["zero_point"]
    )
    return bytes(np.clip(integers, -128, 127).astype(np.int8).tobytes())


def pack_label(manifest: dict[str, Any], y: Any) -> bytes:
    """A class index, or a target vector in memory order, as bytes."""
    if manifest["label"]["kind"] == "class":
        return int(y).to_bytes(4, "little")
    return np.asarray(y, dtype="<f4").reshape(-1).tobytes()
