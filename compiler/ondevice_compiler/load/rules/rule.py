"""What every import rule uses. A rule turns one imported binding into the normal form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.load.normal_form import UNKNOWN, Feature, Named, Normalizer

ValueOf = Callable[[Any], Any]
Rule = Callable[[Normalizer, Any, ValueOf], Any]


def constant_value(expression: Any) -> Any:
    """The NumPy value of a Relax constant, or None."""
    data = getattr(expression, "data", None)
    if data is None:
        data = getattr(expression, "value", None)
    return data.numpy() if data is not None and hasattr(data, "numpy") else None


def constant(value: Any) -> NDArray[Any] | None:
    """The array behind a constant, named or not; None for anything else."""
    if isinstance(value, Named):
        return value.value
    return value if isinstance(value, np.ndarray) else None


def unsupported(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Notes the operator's name; all of them are reported together."""
    name = getattr(getattr(node, "op", None), "name", type(node).__name__)
    if name == "relax.call_tir":
        name = node.args[0].name_hint
    if name == "relax.call_dps_packed":  # an operator that TVM's frontend lacks
        name = str(node.args[0].global_symbol)
    n.unsupported.add(name.removeprefix("relax."))
    return UNKNOWN


def reject(n: Normalizer, what: str) -> Any:
    """Notes a use of a known operator that is not supported."""
    n.unsupported.add(what)
    return UNKNOWN


def with_axes(n: Normalizer, x: Feature, wanted: tuple[str, ...]) -> Any:
    """The feature under the axes that an operator reads, where they differ only in unit axes."""
    given = [axis for axis in x.axes if axis != "N" and x.extent(axis) > 1]
    needed = [axis for axis in wanted if axis != "N" and x.extent(axis) > 1]
    if given == needed and len(x.axes) == len(wanted):
        return replace(x, axes=wanted)
    return reject(n, f"a transposed feature map (axes {x.axes}) as input of a convolution or pool")
