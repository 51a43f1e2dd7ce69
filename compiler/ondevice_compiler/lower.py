"""Integer or float program -> kernels in C and the calls that run them."""

from __future__ import annotations

from dataclasses import dataclass

from ondevice_compiler.codegen import PLACEHOLDER, to_c
from ondevice_compiler.kernel_builder import Argument, KernelBuilder
from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.ops.losses import LOSS_CALLS
from ondevice_compiler.program import Program, Step

RUNTIME_CALLS = (*LOSS_CALLS, "quantize_error", "clip_norm")


@dataclass(frozen=True)
class Kernel:
    """One C function, shared by every step of the same shape.

    Attributes:
        name: Of the function.
        source: Its definition.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Call:
    """What runs one step.

    Attributes:
        step: The step.
        kernel: Name of the kernel; empty where the runtime itself does the step (losses).
        arguments: In the order of the kernel's parameters.
        macs: Multiply-accumulates.
    """

    step: Step
    kernel: str
    arguments: tuple[Argument, ...]
    macs: int


@dataclass(frozen=True)
class Lowered:
    """Kernels and calls of a program.

    Attributes:
        program: What was lowered.
        kernels: In order of first use.
        calls: One a step.
    """

    program: Program
    kernels: tuple[Kernel, ...]
    calls: tuple[Call, ...]

    def __str__(self) -> str:
        """The C of every kernel."""
        return "\n".join(kernel.source for kernel in self.kernels)


def lower(program: Program) -> Lowered:
    """Builds, schedules and prints the kernel of every step; equal kernels are shared."""
    names: dict[str, str] = {}
    used: dict[str, int] = {}
    calls = []
    for step in program.steps:
        operator = OPERATORS[step.op]
        if step.op in RUNTIME_CALLS:
            calls.append(Call(step, "", (), 0))
            continue
        builder = KernelBuilder(PLACEHOLDER)
        operator.lower(builder, step, program)
        source = to_c(builder.finish(), builder.written)
        if source not in names:
            base = _function_name(step, program)
            used[base] = used.get(base, 0) + 1
            suffix = "" if used[base] == 1 else f"_{used[base]}"
            names[source] = base + suffix
        macs = operator.macs(step, program)
        calls.append(Call(step, names[source], tuple(builder.arguments), macs))
    kernels = tuple(
        Kernel(name, source.replace(f" {PLACEHOLDER}(", f" {name}(", 1))
        for source, name in names.items()
    )
    return Lowered(program, kernels, tuple(calls))


def _function_name(step: Step, program: Program) -> str:
    """`conv2d_s8_1x50x16`: operator, type and size of what it writes."""
    output = program.tensor(step.outputs[0])
    kind = "s8" if program.integer else "f32"
    return f"{step.op}_{kind}_{'x'.join(map(str, output.shape[-3:]))}"
