"""Whether a manifest has the form that this version writes: a file may hold anything."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

LARGEST = 2**32 - 1  # of counts, sizes and indices: what the device's numbers hold
COUNT = "count"
AXES = "axes"
NUMBER = (int, float)
# Of a list: what each item is. A key that ends in "?" may be missing.
FORM: Mapping[str, Any] = {
    "abi": COUNT,
    "model_id": str,
    "name": str,
    "dtype": str,
    "loss": str,
    "scheme": {"name": str},
    "optimizer": {
        **{"name": str, "accumulation_steps?": COUNT},
        **{"dp_clip_norm?": (*NUMBER, NoneType), "dp_noise_multiplier?": NUMBER},
    },
    "round?": {"codec": str, "ratio": NUMBER, "proximal": bool},
    "input": {
        **{"shape": [COUNT], "source_shape": [COUNT], "axes": AXES, "dtype": str, "bytes": COUNT},
        **{"scale?": NUMBER, "zero_point?": NUMBER, "limit?": COUNT},
    },
    "label": {"kind": str, "count": COUNT, "dtype?": str, "bytes": COUNT},
    "output": {"count": COUNT},
    "parameters": [
        {
            **{"name": str, "shape": [COUNT], "dtype": str, "bytes": COUNT},
            **{"kind?": str, "format?": str, "scale?": (list, NoneType), "part?": dict},
        }
    ],
    "ops": [{"name": str}],
    "scales": [{"name": str}],
    "preprocessing?": (dict, NoneType),
    "memory": {"arena_bytes": COUNT, "ram_bytes": COUNT, "tensors?": list},
}


def wrong_in(manifest: Mapping[str, Any]) -> str | None:
    """The first thing that is not as it should be, in words; None where all is well."""
    return _wrong(manifest, FORM, "")


def _wrong(value: Any, form: Any, place: str) -> str | None:
    if isinstance(form, Mapping):
        return _wrong_table(value, form, place)
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{place} is {_shown(value)}; needed: a list"
        found = (_wrong(item, form[0], f"{place}[{i}]") for i, item in enumerate(value))
        return next((wrong for wrong in found if wrong is not None), None)
    if form == COUNT:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST
        return None if fits else f"{place} is {_shown(value)}; needed: 0 to {LARGEST}"
    if form == AXES:
        known = isinstance(value, list) and all(axis in (None, 0, 1, 2, 3) for axis in value)
        return None if known else f"{place} is {_shown(value)}; needed: axes of the input"
    if isinstance(value, form) and (form is bool or not isinstance(value, bool)):
        return None
    return f"{place} is {_shown(value)}; needed: another kind of value"


def _wrong_table(value: Any, form: Mapping[str, Any], place: str) -> str | None:
    if not isinstance(value, Mapping):
        return f"{place or 'it'} is {_shown(value)}; needed: a table"
    for key, inner in form.items():
        name = key.removesuffix("?")
        path = f"{place}.{name}".removeprefix(".")
        if name not in value:
            if not key.endswith("?"):
                return f"no key {path!r}"
            continue
        wrong = _wrong(value[name], inner, path)
        if wrong is not None:
            return wrong
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."
