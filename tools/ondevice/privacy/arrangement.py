"""Where each trained number of the compiler's normal form lies in the torch module.

`load/trained_module.py` knows the way for values; for gradients its map itself is needed. It is
affine in every element (a batch norm folded into a layer scales it), so three states that it makes
of known numbers tell it: of zeros, of ones, and of positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UserError
from ondevice_compiler.load import load_model
from ondevice_compiler.load.trained_module import trained_state

Array = NDArray[Any]
LARGEST_PARAMETERS = 1 << 21  # positions must be exact in the module's float32


@dataclass(frozen=True, eq=False)
class Place:
    """Elements of one tensor of the module.

    Attributes:
        source: Position among all numbers of the normal form; -1: none of them.
        factor: What the normal form's number is multiplied with, 1 where there is none.
        offset: What is added; where there is none, the module's own number.
    """

    source: NDArray[np.int64]
    factor: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Of a whole module.

    Attributes:
        starts: Position of each parameter's first number, by its name in the normal form.
        shapes: Of these parameters.
        places: By name in the module.
    """

    starts: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    places: Mapping[str, Place]

    @property
    def size(self) -> int:
        """Numbers of the normal form."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    @property
    def last_layer(self) -> str:
        """Name of the layer that gives the outputs."""
        return list(self.starts)[-1].rpartition(".")[0]


def find_arrangement(path: Path) -> Arrangement:
    """Finds out how a program saved by `torch.export.save` holds what the compiler trains.

    Raises:
        UserError: The program cannot be imported, or a parameter cannot be put back into it.
    """
    loaded = load_model(path)
    shapes = {
        name: values.shape
        for name, values in loaded.parameters.items()
        if name not in loaded.frozen
    }
    count = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    total = sum(count.values())
    starts = dict(zip(count, accumulate(count.values(), initial=0), strict=False))
    if total > LARGEST_PARAMETERS:
        raise UserError(f"{path}: {total} parameters; an audit takes {LARGEST_PARAMETERS} at most")

    def state(make: Any) -> dict[str, Array]:
        trained = {name: make(name).reshape(shapes[name]) for name in shapes}
        found = trained_state(path, "full", trained, {})
        return {name: values.numpy().astype(np.float64) for name, values in found.items()}

    zeros = state(lambda name: np.zeros(count[name]))
    ones = state(lambda name: np.ones(count[name]))
    positions = state(lambda name: starts[name] + 1.0 + np.arange(count[name]))
    places = {}
    for name, offset in zeros.items():
        factor = ones[name] - offset
        known = factor != 0
        factor = np.where(known, factor, 1.0)
        source = np.rint((positions[name] - offset) / factor).astype(np.int64) - 1
        places[name] = Place(np.where(known, source, -1), factor, offset)
    used = np.concatenate([place.source[place.source >= 0] for place in places.values()])
    if len(np.unique(used)) != len(used):
        raise UserError(
            f"{path}: a parameter lies in two places of the module; audit another model"
        )
    return Arrangement(starts, shapes, places)
