"""Budgets as people write them: 96K of RAM, 2M multiply-accumulates."""

from __future__ import annotations

import re

from ondevice.errors import UserError

_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmM]?)(i?[bB])?")
_BYTES = {"": 1, "k": 1024, "m": 1024**2}
_COUNT = {"": 1, "k": 1000, "m": 1000**2}


def parse_bytes(text: str) -> int:
    """`96K`, `96KB`, `96KiB` and `98304` are the same number of bytes.

    Raises:
        UserError: Not a size above 0.
    """
    return _parse(text, _BYTES, f"--ram {text}: allowed: a size such as 96K, 96KB or 98304")


def parse_macs(text: str) -> int:
    """`2M` and `2000000` are the same number of multiply-accumulates.

    Raises:
        UserError: Not a number above 0.
    """
    return _parse(text, _COUNT, f"--macs {text}: allowed: a number such as 2M, 800K or 1500000")


def _parse(text: str, units: dict[str, int], refusal: str) -> int:
    found = _WRITTEN.fullmatch(text.strip())
    if found is None or (found[3] and units is _COUNT):
        raise UserError(refusal)
    value = int(float(found[1]) * units[found[2].lower()])
    if value < 1:
        raise UserError(refusal)
    return value
