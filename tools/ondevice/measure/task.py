"""What is measured: a step of a program, or some, with operands, and the C of kernels for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.argument_text import ArgumentText
from ondevice_compiler.c_text import C_TYPES, identifier, literal, table
from ondevice_compiler.emit import kernels_header
from ondevice_compiler.kernel_builder import TensorArgument
from ondevice_compiler.lower import Lowered, lower
from ondevice_compiler.program import Program, Tensor

UNWRITTEN = 85  # Each byte of what a kernel only writes, before it does.
_ALIGNMENT = 8


@dataclass(frozen=True)
class Task:
    """One step and the state it runs in.

    Attributes:
        name: For people.
        program: Of that one step.
        values: Every operand's content before the step; outputs that are not read may miss.
        exponents: Of the int8 gradients.
        rate: Learning rate times the unit of the gradients.
        macs: Multiply-accumulates of the step; 0 where it has none.
    """

    name: str
    program: Program
    values: Mapping[str, NDArray[Any]]
    exponents: Mapping[str, int] = field(default_factory=dict)
    rate: float = 0.0
    macs: int = 0

    @property
    def constants(self) -> list[Tensor]:
        """Operands in flash: frozen parameters."""
        tensors = self.program.tensors.values()
        return [t for t in tensors if t.kind == "parameter" and not t.trainable]

    @property
    def offsets(self) -> dict[str, int]:
        """First byte of each operand in RAM: the same for every kernel of the task."""
        constants = {tensor.name for tensor in self.constants}
        offsets, end = {}, 0
        for tensor in self.program.tensors.values():
            if tensor.name not in constants and tensor.view_of is None:
                offsets[tensor.name] = end
                end += -(-tensor.size_bytes // _ALIGNMENT) * _ALIGNMENT
        for tensor in self.program.tensors.values():
            if tensor.view_of is not None:
                offsets[tensor.name] = offsets[tensor.view_of] + tensor.offset_bytes
        return offsets

    def arena(self) -> bytes:
        """First contents of the operands in RAM."""
        offsets = self.offsets
        ends = [offsets[name] + self.program.tensor(name).size_bytes for name in offsets]
        content = bytearray([UNWRITTEN]) * (-(-max(ends) // _ALIGNMENT) * _ALIGNMENT)
        for name, first in offsets.items():
            if name in self.values:
                raw = self._raw(self.program.tensor(name))
                content[first : first + len(raw)] = raw
        return bytes(content)

    def operands(self) -> bytes:
        """The arena, then every constant: what `measured_source` includes as operands.bin."""
        return self.arena() + b"".join(self._raw(tensor) for tensor in self.constants)

    def _raw(self, tensor: Tensor) -> bytes:
        return np.ascontiguousarray(self.values[tensor.name], tensor.dtype).tobytes()


@dataclass(frozen=True)
class KernelSource:
    """A kernel in C, and the call that the task makes.

    Attributes:
        definitions: Of the function, with its includes; its operands are not declared yet.
        statement: The call, with the task's tensors by their C names.
        tables: Definitions of constants that only the call mentions.
    """

    definitions: str
    statement: str
    tables: str = ""


def lowered_kernel(task: Task, lowered: Lowered | None = None) -> KernelSource:
    """The compiler's own kernels for a task, and the calls of its steps.

    Args:
        task: Of one step or several.
        lowered: Of the task's program, where not by the compiler's defaults.
    """
    lowered = lower(task.program) if lowered is None else lowered
    definitions = kernels_header(lowered)
    for kernel in lowered.kernels:  # A firmware calls most kernels twice, so they are not inlined.
        definitions = definitions.replace(
            f"static void {kernel.name}(", f"__attribute__((noinline)) static void {kernel.name}("
        )
    tables: list[str] = []
    text = _arguments(task, tables)
    calls = []
    for call in lowered.calls:
        arguments = [text.of(argument) for argument in call.arguments]
        calls.append(f"{call.kernel}({', '.join(arguments)});")
    return KernelSource(definitions, "\n    ".join(calls), "\n".join(tables))


def measured_source(task: Task, kernel: KernelSource) -> str:
    """The C file of one measurement, beside firmware/measure/measure.c; includes operands.bin."""
    arena_bytes = len(task.arena())
    scales = [f"{{.exponent = {task.exponents[name]}}}" for name in task.exponents] or ["{0}"]
    places = [
        f"#define {identifier(name)} (({C_TYPES[task.program.tensor(name).dtype]} *)(void *)"
        f"((uint8_t *)od_arena + {offset}))"
        for name, offset in task.offsets.items()
    ]
    constants, first = [], arena_bytes
    for tensor in task.constants:
        name = identifier(tensor.name)
        constants += [
            f"extern const {C_TYPES[tensor.dtype]} {name}[{tensor.elements}];",
            _included(name, first, tensor.size_bytes),
        ]
        first += tensor.size_bytes
    return "\n".join(
        [
            kernel.definitions,
            '#include "measured.h"',
            f"uint32_t od_arena[{arena_bytes // 4}];",
            f"const uint32_t od_arena_bytes = {arena_bytes};",
            f"const uint32_t od_scale_count = {len(scales)};",
            f"od_grad_scale_t od_scales[{len(scales)}];",
            f"const od_grad_scale_t od_scales_first[{len(scales)}] = {{{', '.join(scales)}}};",
            f"const float od_measured_rate = {literal(task.rate, 'float32')};",
            _included("od_arena_first", 0, arena_bytes),
            *constants,
            kernel.tables,
            *places,
            "void od_measured(float rate) {",
            "    (void)rate;",
            f"    {kernel.statement}",
            "}",
            "",
        ]
    )


def _included(symbol: str, first: int, size_bytes: int) -> str:
    """Defines constants by bytes of operands.bin: a compiler reads large tables slowly."""
    return (
        f'__asm__(".section .rodata.{symbol},\\"a\\"\\n.balign 8\\n.global {symbol}\\n"\n'
        f'        "{symbol}: .incbin \\"operands.bin\\",{first},{size_bytes}\\n.text");'
    )


def _arguments(task: Task, tables: list[str]) -> ArgumentText:
    """How the harness calls what a kernel takes; appends the constants that only calls mention."""

    def put(values: NDArray[Any]) -> str:
        name = f"od_table_{len(tables)}"
        tables.append(table(name, values))
        return name

    def pointer(argument: TensorArgument) -> str:
        name = argument.tensor
        if argument.axes:
            stored = np.asarray(task.values[name]).astype(task.program.tensor(name).dtype)
            return put(stored.transpose(argument.axes))
        return identifier(name) + (f" + {argument.first}" if argument.first else "")

    gradients = list(task.exponents)
    return ArgumentText(pointer, put, gradients, "od_scales", unit="rate", local=lambda _: "rate")
