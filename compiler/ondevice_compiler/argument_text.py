"""Arguments of kernels as C expressions, wherever the kernels are called from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ondevice_compiler.c_text import literal
from ondevice_compiler.kernel_builder import (
    Argument,
    LocalArgument,
    RateArgument,
    ScalarArgument,
    ScaleArgument,
    ShiftArgument,
    TableArgument,
    TensorArgument,
    UnitArgument,
)


@dataclass(frozen=True)
class ArgumentText:
    """The names that the caller's C has for what kernels take.

    Attributes:
        pointer: Address of a tensor's element.
        table: Name of a constant table.
        gradients: In the order of their scales; another one counts in its own units.
        scales: Name of the array of `od_grad_scale_t`.
        rate, unit: Names of the learning rate and of the real value of the loss's unit.
        local: Name of another float32, see `LocalArgument`.
    """

    pointer: Callable[[TensorArgument], str]
    table: Callable[[NDArray[Any]], str]
    gradients: Sequence[str]
    scales: str = "scales"
    rate: str = "rate"
    unit: str = "unit"
    local: Callable[[str], str] = str

    def of(self, argument: Argument) -> str:
        """C expression for one argument."""
        match argument:
            case TensorArgument():
                return self.pointer(argument)
            case TableArgument(values):
                return self.table(values)
            case ScalarArgument(value, dtype):
                return literal(value, dtype)
            case ScaleArgument(gradient):
                return self._scale(gradient)
            case ShiftArgument(source, target):
                return f"{self._exponent(source)} - {self._exponent(target)}"
            case RateArgument(gradient, factor):
                return self._in_units_of(gradient, self.rate, factor)
            case UnitArgument(gradient, factor):
                return self._in_units_of(gradient, self.unit, factor)
            case LocalArgument(name):
                return self.local(name)
        raise TypeError(f"unknown argument {argument}")

    def _scale(self, gradient: str) -> str:
        return f"&{self.scales}[{self.gradients.index(gradient)}]"

    def _exponent(self, gradient: str) -> str:
        """That of the loss's own error is 0."""
        if gradient not in self.gradients:
            return "0"
        return f"{self.scales}[{self.gradients.index(gradient)}].exponent"

    def _in_units_of(self, gradient: str, what: str, factor: float) -> str:
        times = "" if factor == 1.0 else f" * {literal(factor, 'float32')}"
        if gradient not in self.gradients:
            return f"{what}{times}"
        return f"od_rate({what}, {self._scale(gradient)}){times}"
