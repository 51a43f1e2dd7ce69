"""The device's noise from docs/privacy-dp.md alone: `hashlib`, and a table in 80 digits."""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
from numpy.typing import NDArray

NARROW = 24
WEIGHTS = (1, 16, 256, 4096)
DEVIATION = NARROW * (257 * 65537) ** 0.5
SIGN = 2**63


@cache
def cumulated() -> list[int]:
    """floor(2^63 P(|x| <= m)) of the discrete Gaussian, while it grows."""
    with localcontext() as context:
        context.prec = 80
        each = [(-Decimal(m * m) / (2 * NARROW**2)).exp() * (2 if m else 1) for m in range(600)]
        total, below, found = sum(each), Decimal(0), [-1]
        for weight in each:
            below += weight
            found.append(int(below / total * SIGN))
            if found[-1] == found[-2]:
                break
    return found[1:-1]


def narrow(random: int) -> int:
    """Inversion: as many magnitudes lie below as entries are at most the random number."""
    magnitude = bisect_right(cumulated(), random % SIGN)
    return -magnitude if random >= SIGN else magnitude


def noise(key: bytes, update: int, tensor: int, count: int) -> NDArray[np.int32]:
    """Of the first elements of a tensor."""
    found = []
    for element in range(count):
        message = key + struct.pack("<III", update, tensor, element)
        words = struct.unpack("<4Q", hashlib.blake2s(message).digest())
        found.append(sum(w * narrow(word) for w, word in zip(WEIGHTS, words, strict=True)))
    return np.array(found, np.int32)
