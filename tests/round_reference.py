"""Rounds and codecs in NumPy, written from docs/compression.md, not from the C."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = list[NDArray[Any]]
LIMITS = {"int16": 2**15 - 1, "int32": 2**31 - 128}
F32 = np.float32


KEPT = {"int16": 2**14 - 1, "int32": 2**30 - 1}


def reference(weights: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
    """What the buffer holds during a round; integers wrap."""
    if weights.dtype == np.float32:
        return np.asarray(weights - residual, F32)
    return np.asarray((weights.astype(np.int64) - residual).astype(weights.dtype))


def learnt(weights: NDArray[Any], held: NDArray[Any]) -> NDArray[Any]:
    """The change of trained weights with what was not sent, as codecs take it."""
    change = reference(weights, held)
    if weights.dtype == np.float32:
        return change
    limit = LIMITS[str(weights.dtype)]
    return np.asarray(np.clip(change.astype(np.int64), -limit, limit).astype(change.dtype))


def clamped(residual: NDArray[Any]) -> NDArray[Any]:
    if residual.dtype == np.float32:
        return residual
    limit = KEPT[str(residual.dtype)]
    return np.asarray(np.clip(residual, -limit, limit))


def put_back(kept: NDArray[Any], sent: NDArray[Any]) -> NDArray[Any]:
    if kept.dtype == np.float32:
        return np.asarray(kept + sent, F32)
    limit = KEPT[str(kept.dtype)]
    return np.asarray(np.clip(kept.astype(np.int64) + sent, -limit, limit).astype(kept.dtype))


@dataclass(frozen=True)
class Sent:
    """What one tensor sends, and what it keeps; both in its own steps."""

    sent: NDArray[Any]
    kept: NDArray[Any]


def split(change: NDArray[Any], sent: NDArray[Any]) -> Sent:
    whole = sent.astype(change.dtype)
    return Sent(whole, np.asarray(change - whole, change.dtype))


def topk(changes: Arrays, units: Arrays, kept: int) -> list[Sent]:
    """The `kept` elements of the largest real magnitude; of equal ones the first."""
    real = [
        (np.abs(c.astype(F32)) * u.astype(F32)).reshape(-1)
        for c, u in zip(changes, units, strict=True)
    ]
    every = np.concatenate(real)
    chosen = np.argsort(-every, kind="stable")[:kept]
    mask = np.zeros(len(every), bool)
    mask[chosen] = True
    mask &= every > 0
    parts = np.split(mask, np.cumsum([c.size for c in changes])[:-1])
    return [
        Sent(np.where(m.reshape(c.shape), c, 0), np.where(m.reshape(c.shape), c * 0, c))
        for c, m in zip(changes, parts, strict=True)
    ]


def mean_magnitude(values: NDArray[Any]) -> np.float32:
    """Float32 sum, first to last, divided once."""
    total = F32(0)
    for value in values.reshape(-1):
        total = F32(total + F32(abs(F32(value))))
    return F32(total / F32(values.size))


def level_of(change: NDArray[Any], level: np.float32) -> Any:
    return level if change.dtype == np.float32 else np.trunc(F32(level + F32(0.5)))


def ternary(change: NDArray[Any]) -> Sent:
    threshold = F32(F32(0.7) * mean_magnitude(change))
    large = np.abs(change.astype(F32)) > threshold
    if not np.any(large):
        return split(change, np.zeros_like(change))
    level = level_of(change, mean_magnitude(change[large]))
    return split(change, np.where(large, np.sign(change.astype(np.float64)) * float(level), 0))


def sign(change: NDArray[Any]) -> Sent:
    level = float(level_of(change, mean_magnitude(change)))
    return split(change, np.where(change < 0, -level, level))


def int8(change: NDArray[Any]) -> Sent:
    largest = float(np.max(np.abs(change.astype(F32))))
    exponent = max(int(np.floor(np.log2(largest))) - 6, -126) if largest > 0 else -126
    scaled = np.ldexp(change.astype(F32).astype(np.float64), -exponent)
    steps = np.clip(np.trunc(scaled + np.copysign(0.5, scaled)), -127, 127)
    return split(change, np.ldexp(steps, exponent))


def compress(codec: str, changes: Arrays, units: Arrays, kept: int) -> list[Sent]:
    if codec == "topk":
        return topk(changes, units, kept)
    one = {"ternary": ternary, "sign": sign, "int8": int8}[codec]
    return [one(change) for change in changes]
