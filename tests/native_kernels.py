"""Lowers single steps and calls their kernels in this process; many kernels make one library."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coverage_flags import coverage_flags
from native_model import CFLAGS, NUMERICS, ROOT, WARNINGS, _Scale
from ondevice_compiler.c_text import literal, table
from ondevice_compiler.emit import KERNEL_HEADERS
from ondevice_compiler.kernel_builder import (
    RateArgument,
    ScalarArgument,
    ScaleArgument,
    ShiftArgument,
    TableArgument,
    TensorArgument,
)
from ondevice_compiler.lower import lower
from ondevice_compiler.program import Program, Step, Tensor


@dataclass(frozen=True)
class Case:
    """One step, its operands and the state it runs in.

    Attributes:
        program: Of that one step.
        values: Every tensor's content before the step; outputs that are not read may miss.
        exponents: Of the delayed gradients.
        rate: learning rate times unit.
    """

    program: Program
    values: dict[str, NDArray[Any]]
    exponents: dict[str, int]
    rate: float = 0.0

    def __repr__(self) -> str:
        return f"Case({self.program}, exponents {self.exponents}, rate {self.rate!r})"


@dataclass(frozen=True)
class Outcome:
    """What a step wrote, and (amax, saturated, zeros) of each scale."""

    values: dict[str, NDArray[Any]]
    counters: dict[str, tuple[int, int, int]]


def one_step(step: Step, tensors: Sequence[Tensor]) -> Program:
    """A program of one step."""
    named = {tensor.name: tensor for tensor in tensors}
    first = step.inputs[0]
    return Program("step", named, (step,), {}, first, first, step.outputs[0], "mse")


def make_step(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Step:
    """A step called like its operator."""
    return Step(op, op, tuple(inputs), tuple(outputs), MappingProxyType(attributes))


def run_cases(cases: Sequence[Case]) -> list[Outcome]:
    """Compiles the kernels of all cases into one library and runs them."""
    text = [f'#include "ondevice/{header}.h"' for header in KERNEL_HEADERS]
    for number, case in enumerate(cases):
        text += _source(number, case)
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "cases.c"), Path(folder, "cases.so")
        source.write_text("\n".join(text), encoding="utf-8")
        include = ["-I", str(ROOT / "runtime/include")]
        command = [
            "gcc",
            *CFLAGS,
            "-O1",
            *WARNINGS,
            *coverage_flags(),
            *include,
            "-shared",
            "-fPIC",
        ]
        subprocess.run([*command, "-o", str(library), str(source), *map(str, NUMERICS)], check=True)
        functions = ctypes.CDLL(str(library))
        return [_run(functions[f"case_{number}"], case) for number, case in enumerate(cases)]


def _order(case: Case) -> tuple[list[str], list[str]]:
    return list(case.program.tensors), list(case.exponents)


def _source(number: int, case: Case) -> list[str]:
    """The kernel and a wrapper `case_N(tensors, scales, rate)`."""
    lowered = lower(case.program)
    (kernel,), (call,) = lowered.kernels, lowered.calls
    name = f"kernel_{number}"
    tensors, gradients = _order(case)
    parts, arguments = [kernel.source.replace(f" {kernel.name}(", f" {name}(", 1)], []
    for index, argument in enumerate(call.arguments):
        match argument:
            case TensorArgument(tensor, axes=tuple(axes)):
                parts.append(table(f"table_{number}_{index}", case.values[tensor].transpose(axes)))
                arguments.append(f"table_{number}_{index}")
            case TensorArgument(tensor):
                arguments.append(f"tensors[{tensors.index(tensor)}]")
            case TableArgument(values):
                parts.append(table(f"table_{number}_{index}", values))
                arguments.append(f"table_{number}_{index}")
            case ScalarArgument(value, dtype):
                arguments.append(literal(value, dtype))
            case ScaleArgument(gradient):
                arguments.append(f"&scales[{gradients.index(gradient)}]")
            case ShiftArgument(source, target):
                here, there = gradients.index(source), gradients.index(target)
                arguments.append(f"scales[{here}].exponent - scales[{there}].exponent")
            case RateArgument(gradient, factor):
                scale = f"&scales[{gradients.index(gradient)}]"
                arguments.append(f"od_rate(rate, {scale}) * {literal(factor, 'float32')}")
    head = f"void case_{number}(void **tensors, od_grad_scale_t *scales, float rate)"
    body = f"{{ (void)scales; (void)rate; {name}({', '.join(arguments)}); }}"
    return [*parts, f"{head};", f"{head} {body}"]


def _run(function: Any, case: Case) -> Outcome:
    tensors, gradients = _order(case)
    buffers = []
    for name in tensors:
        tensor = case.program.tensor(name)
        given = case.values.get(name)
        # What a kernel only writes starts as rubbish.
        filled = np.full(tensor.shape, 85, tensor.dtype) if given is None else given
        buffers.append(np.ascontiguousarray(filled, tensor.dtype).copy())
    pointers = (ctypes.c_void_p * len(buffers))(*[buffer.ctypes.data for buffer in buffers])
    scales = (_Scale * max(1, len(gradients)))()
    for scale, name in zip(scales, gradients, strict=False):
        scale.exponent = case.exponents[name]
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_float]
    function.restype = None
    function(pointers, scales, case.rate)
    written = dict(zip(tensors, buffers, strict=True))
    counters = {
        name: (scale.amax, scale.saturated, scale.zeros)
        for scale, name in zip(scales, gradients, strict=False)
    }
    return Outcome(written, counters)
