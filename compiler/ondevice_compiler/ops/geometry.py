"""Sizes of a sliding window over a feature map in N, H, W, C order with N = 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.program import Step


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pool.

    Attributes:
        height, width: Of the input, in pixels.
        out_height, out_width: Of the output.
        kernel_height, kernel_width: Of the window.
        stride_height, stride_width: Of the window.
        top, left: Padding before the first row and column; that after the last follows from
            the sizes.
    """

    height: int
    width: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    top: int
    left: int

    @classmethod
    def of(
        cls,
        step: Step,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        kernel: tuple[int, int],
    ) -> Window:
        """Geometry of `step`, whose attributes hold `stride` (2) and `padding` (4, from top)."""
        stride, padding = step.attributes["stride"], step.attributes["padding"]
        return cls(
            height=input_shape[1],
            width=input_shape[2],
            out_height=output_shape[1],
            out_width=output_shape[2],
            kernel_height=kernel[0],
            kernel_width=kernel[1],
            stride_height=stride[0],
            stride_width=stride[1],
            top=padding[0],
            left=padding[1],
        )

    def source(self, oh: Any, ow: Any, kh: Any, kw: Any) -> tuple[Any, Any, Any]:
        """Input row and column under window element (kh, kw) at output (oh, ow), and their guard.

        Returns:
            (row, column, condition); the condition is None where no padding is ever read.
        """
        row = oh * self.stride_height + kh - self.top
        column = ow * self.stride_width + kw - self.left
        guards = [
            *_inside(
                row, self.height, self.top,
                self.out_height, self.stride_height, self.kernel_height,
            ),
            *_inside(
                column, self.width, self.left,
                self.out_width, self.stride_width, self.kernel_width,
            ),
        ]  # fmt: skip
        return row, column, _all(guards)

    def target(self, row: Any, column: Any, kh: Any, kw: Any) -> tuple[Any, Any, Any]:
        """Output position whose window element (kh, kw) covers an input pixel, and its guard."""
        out_row, row_guards = _covering(
            row + self.top - kh, self.stride_height, self.out_height, self.height, self.top,
            self.kernel_height,
        )  # fmt: skip
        out_column, column_guards = _covering(
            column + self.left - kw, self.stride_width, self.out_width, self.width, self.left,
            self.kernel_width,
        )  # fmt: skip
        return out_row, out_column, _all([*row_guards, *column_guards])


def guarded(condition: Any, value: Any, otherwise: Any) -> Any:
    """`value` where the condition holds or is None, else `otherwise`."""
    return value if condition is None else T.if_then_else(condition, value, otherwise)


def _inside(position: Any, size: int, before: int, out: int, stride: int, kernel: int) -> list[Any]:
    guards = []
    if before > 0:
        guards.append(position >= 0)
    if (out - 1) * stride + kernel - before > size:
        guards.append(position < size)
    return guards


def _covering(
    offset: Any, stride: int, out: int, size: int, before: int, kernel: int
) -> tuple[Any, list[Any]]:
    guards = []
    if before - (kernel - 1) < 0:
        guards.append(offset >= 0)
    if size - 1 + before >= out * stride:
        guards.append(offset < out * stride)
    if stride == 1:
        return offset, guards
    guards.append(T.truncmod(offset, stride) == 0)
    return T.truncdiv(offset, stride), guards


def _all(guards: list[Any]) -> Any:
    condition = None
    for guard in guards:
        condition = guard if condition is None else T.And(condition, guard)
    return condition
