"""Elementwise, rearranging and transposed operators in NumPy, written from docs/numerics.md."""

from __future__ import annotations

from integer_reference import Machine
from ondevice_compiler.program import Step


class ElementwiseMachine(Machine):
    """The reference interpreter with these operators."""

    def _upsample2d(self, step: Step) -> None:
        rows, columns = step.attributes["factor"]
        self._write(step.outputs[0], self._value(step.inputs[0]).repeat(rows, 1).repeat(columns, 2))

    def _upsample2d_gradient(self, step: Step) -> None:
        rows, columns = step.attributes["factor"]
        _, height, width, channels = self.program.tensor(step.outputs[0]).shape
        blocks = self._value(step.inputs[0]).reshape(1, height, rows, width, columns, channels)
        self._store(step, blocks.sum(axis=(2, 4)))
