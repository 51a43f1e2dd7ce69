"""Slices that are contiguous in memory are read where they lie: no copy, no step.

Rows of a map, or the first tokens of a sequence (H is 1), are a run of bytes of what they are cut
from. Such a slice becomes a view (`Tensor.view_of`), which keeps the whole map alive as long as the
slice is read: schedule.py takes views only where the arena does not grow by them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import dropwhile

import numpy as np

from ondevice_compiler.lifetimes import in_arena
from ondevice_compiler.program import BYTES, Program, Step


def contiguous_slices(program: Program) -> tuple[str, ...]:
    """Names of the steps whose output could be a view of their input."""
    return tuple(step.name for step in program.steps if _is_contiguous(step, program))


def slices_as_views(program: Program, names: Collection[str]) -> Program:
    """Replaces slices by views of their inputs.

    Args:
        program: Of its final types, not yet ordered.
        names: Of steps from `contiguous_slices`.
    """
    tensors = dict(program.tensors)
    for step in (step for step in program.steps if step.name in names):
        (source,), (output,) = step.inputs, step.outputs
        x = tensors[source]  # Maybe a view itself.
        first = int(np.ravel_multi_index(step.attributes["begin"], x.shape))
        offset_bytes = x.offset_bytes + first * BYTES[x.dtype]
        tensors[output] = replace(
            tensors[output], view_of=x.view_of or source, offset_bytes=offset_bytes
        )
    steps = tuple(step for step in program.steps if step.name not in names)
    return replace(program, steps=steps, tensors=tensors)


def _is_contiguous(step: Step, program: Program) -> bool:
    """Whether a step is a slice whose bytes follow each other in its input, both in the arena."""
    if step.op != "slice" or not all(in_arena(program, n) for n in (*step.inputs, *step.outputs)):
        return False
    whole, part = program.tensor(step.inputs[0]).shape, program.tensor(step.outputs[0]).shape
    # One position of the outer axes, some of the next, all of the others.
    extents = list(dropwhile(lambda pair: pair[1] == 1, zip(whole, part, strict=True)))
    return all(extent == held for extent, held in extents[1:])
