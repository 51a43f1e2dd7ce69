"""Values of a board's file that are no plain numbers: pins ("PD8"), flash sectors ("4x16K")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

_PIN = re.compile(r"P([A-K])(\d|1[0-5])")
_SECTORS = re.compile(r"(\d+)x(\d+)K")


@dataclass(frozen=True)
class Pin:
    """A pin of an STM32.

    Attributes:
        port: 0 for A.
        number: 0 to 15.
    """

    port: int
    number: int


@dataclass(frozen=True)
class Sectors:
    """Neighbouring erase units of the same size.

    Attributes:
        count: How many.
        bytes: Of each.
    """

    count: int
    bytes: int


def parse_pin(text: str) -> Pin:
    """Reads "PD8".

    Raises:
        ValueError: With what is allowed.
    """
    match = _PIN.fullmatch(text)
    if match is None:
        raise ValueError("a pin, as PA2 or PD15")
    return Pin(ord(match[1]) - ord("A"), int(match[2]))


def parse_sectors(text: str) -> tuple[Sectors, ...]:
    """Reads "4x16K,1x64K,3x128K", in the order of the addresses.

    Raises:
        ValueError: With what is allowed.
    """
    matches = [_SECTORS.fullmatch(part.strip()) for part in text.split(",")]
    sectors = tuple(Sectors(int(m[1]), int(m[2]) * 1024) for m in matches if m is not None)
    if len(sectors) != len(matches) or not all(s.count and s.bytes for s in sectors):
        raise ValueError("counts and sizes in KB from the first address on, as 4x16K,1x64K,3x128K")
    return sectors


def sector_starts(sectors: tuple[Sectors, ...]) -> tuple[int, ...]:
    """Offset of each sector in the flash, and at last the flash's bytes."""
    sizes = [group.bytes for group in sectors for _ in range(group.count)]
    return (0, *accumulate(sizes))
