"""C identifiers, literals and tables."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

C_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "uint32": "uint32_t",
    "float32": "float",
}
VALUES_PER_LINE = 12


def identifier(name: str) -> str:
    """A C identifier for a tensor name; two names may give the same one."""
    text = re.sub(r"\W", "_", name)
    return f"t_{text}" if text[:1].isdigit() else text


def literal(value: Any, dtype: str) -> str:
    """An exact C literal."""
    if dtype != "float32":
        return str(int(value))
    text = f"{np.float32(value):.9g}"
    return f"{text}f" if re.search(r"[.e]", text) else f"{text}.0f"


def table(name: str, values: NDArray[Any]) -> str:
    """`static const TYPE NAME[n] = {...};`."""
    dtype = str(values.dtype)
    flat = [literal(value, dtype) for value in values.reshape(-1)]
    lines = [
        "    " + ", ".join(flat[start : start + VALUES_PER_LINE]) + ","
        for start in range(0, len(flat), VALUES_PER_LINE)
    ]
    return f"static const {C_TYPES[dtype]} {name}[{len(flat)}] = {{\n" + "\n".join(lines) + "\n};\n"
