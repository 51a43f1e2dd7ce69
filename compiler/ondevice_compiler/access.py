"""What a step reads of its inputs while it writes its output, in the order of its loops.

Kernels write their output pixel by pixel, in memory order (kernel_builder.py), or a few pixels of a
row at once (tiling/). An output may
therefore be written over an input that dies with the step, as long as it stays behind what is still
to be read ("diagonal memory optimisation", Blacker et al., 2020); and rows of an output need only
some rows of the input, which is what lets a run of steps be executed band by band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.program import BYTES, Program, Step, Tensor
from ondevice_compiler.tiling.tile import LARGEST_PIXELS

# Positions of the inputs that are read through a sliding window, or one element for each element.
WINDOWS = {"conv2d": (0,), "max_pool2d": (0,), "avg_pool2d": (0,), "max_pool2d_argmax": (0,)}
TRANSPOSED = {"conv2d_dx": (0,), "max_pool2d_gradient": (0, 1), "avg_pool2d_gradient": (0,)}
ELEMENTS = {
    "add": (0, 1),
    "subtract": (0, 1),
    "multiply": (0, 1),
    "lookup": (0,),
    "clip": (0,),
    "add_gradient": (0, 1),
    "multiply_gradient": (0, 1),
    "lookup_gradient": (0, 1),
    "clip_gradient": (0,),
    "max_pool2d_argmax": (1,),
}
TILED = ("conv2d", "conv2d_dx")  # They write up to LARGEST_PIXELS pixels at once.
PIXELS = {"pack_mask": (0,), "slice_channels": (0,)}  # Row by row, into rows of another size.


@dataclass(frozen=True)
class Window:
    """One axis of a sliding window: output r reads [r * stride - before, ... + kernel).

    Attributes:
        kernel, stride, before: In rows or columns; `before` is the padding.
    """

    kernel: int
    stride: int
    before: int


ONE = Window(1, 1, 0)


def row_window(step: Step, program: Program, position: int) -> Window | None:
    """Rows of input `position` that a forward step reads for a row of its output.

    Returns:
        None where the step is not known to read row by row.
    """
    if position in (*ELEMENTS.get(step.op, ()), *PIXELS.get(step.op, ())):
        shapes = [program.tensor(name).shape for name in (step.inputs[position], step.outputs[0])]
        maps = [shape for shape in shapes if len(shape) == 4]
        return ONE if len({shape[1] for shape in maps}) == 1 else None
    if position in WINDOWS.get(step.op, ()):
        return _windows(step, program)[0]
    return None


def overlap_distance(step: Step, program: Program, name: str) -> int | None:
    """How far before input `name` the output must start to be written over it.

    Args:
        step: Has one output in the arena.
        program: Holds the step's tensors.
        name: One of the step's inputs, read by no later step.

    Returns:
        Bytes (negative: the output may even start that far behind the input's first byte);
        None where the two may share no byte.
    """
    output, tensor = program.tensor(step.outputs[0]), program.tensor(name)
    distances = []
    for position, read in enumerate(step.inputs):
        if program.storage(read)[0] != name:
            continue
        if read != name:  # A view of it: read in another order.
            return None
        distance = _distance(step, program, position, tensor, output)
        if distance is None:
            return None
        distances.append(distance)
    return max(distances)


def _distance(
    step: Step, program: Program, position: int, tensor: Tensor, output: Tensor
) -> int | None:
    masked = step.attributes.get("mask") == "output" and position == len(step.inputs) - 1
    tile = LARGEST_PIXELS if step.op in TILED else 1
    if masked or position in ELEMENTS.get(step.op, ()):
        same = BYTES[tensor.dtype] == BYTES[output.dtype] and tensor.elements == output.elements
        pixel_bytes = output.size_bytes // (output.elements // output.shape[-1])
        return (tile - 1) * pixel_bytes if same else None
    if len(tensor.shape) != 4 or len(output.shape) != 4:
        return None
    if position in WINDOWS.get(step.op, ()) and step.op != "max_pool2d_argmax":
        row, column = _windows(step, program)
        rows = _first_read(output.shape[1], row)
        columns = _first_read(output.shape[2], column)
    elif position in TRANSPOSED.get(step.op, ()):
        row, column = _windows(step, program)
        rows = _first_covering(output.shape[1], row)
        columns = _first_covering(output.shape[2], column)
    else:
        return None
    return _behind(rows, columns, tensor, output, tile)


def _windows(step: Step, program: Program) -> tuple[Window, Window]:
    """Of the rows and of the columns."""
    if "kernel" in step.attributes:
        kernel = step.attributes["kernel"]
    else:
        kernel = program.tensor(step.inputs[1]).shape[1:3]
    stride, padding = step.attributes["stride"], step.attributes["padding"]
    return (
        Window(int(kernel[0]), int(stride[0]), int(padding[0])),
        Window(int(kernel[1]), int(stride[1]), int(padding[1])),
    )


def _first_read(count: int, window: Window) -> NDArray[np.int64]:
    """First input position that each of `count` outputs reads."""
    return np.maximum(np.arange(count) * window.stride - window.before, 0)


def _first_covering(count: int, window: Window) -> NDArray[np.int64]:
    """First window that covers each of `count` positions."""
    last_before = np.arange(count) + window.before - (window.kernel - 1)
    return np.maximum(-(-last_before // window.stride), 0)


def _behind(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    tensor: Tensor,
    output: Tensor,
    tile: int,
) -> int:
    """Largest distance from the first byte still to be read to the end of what is written.

    While an output pixel is written, all that it reads itself counts as still to be read, and all
    that the pixels of its tile read; where tiles begin is left open.
    """
    height, width = len(rows), len(columns)
    pixel_bytes = output.size_bytes // (height * width)
    read_bytes = tensor.size_bytes // (tensor.shape[1] * tensor.shape[2])
    next_rows = np.append(rows[1:], tensor.shape[1]) * tensor.shape[2]
    unread = np.minimum(rows[:, None] * tensor.shape[2] + columns[None, :], next_rows[:, None])
    written = (np.arange(height * width) + 1) * pixel_bytes
    behind = np.concatenate([np.zeros(tile - 1, np.int64), unread.ravel()])[: height * width]
    return int((written - behind * read_bytes).max())
