"""Shapes of a model's input and output, without compiling it."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ondevice_compiler.load import load_model
from ondevice_compiler.load.head import replace_head


def read_shapes(model: Path, head: int | None = None) -> tuple[tuple[int, ...], int]:
    """Loads a model file for its shapes.

    Args:
        model: As for `load_model`.
        head: Outputs of a fresh last layer; None: the model's own.

    Returns:
        Shape of a sample, without the batch axis, and the number of outputs.

    Raises:
        UserError: The file cannot be loaded.
    """
    loaded = load_model(model)
    if head is not None:
        loaded = replace_head(loaded, head)
    output = loaded.module["main"].ret_ty.shape
    return tuple(loaded.source_shape[1:]), prod(int(size) for size in output)
