"""RAM that a planned program takes on the device, by what it is for."""

from __future__ import annotations

from dataclasses import dataclass

from ondevice_compiler.plan import Plan
from ondevice_compiler.program import Program, Tensor

SCALE_BYTES = 20  # sizeof(od_grad_scale_t)


@dataclass(frozen=True)
class MemoryNeed:
    """RAM of a model's buffers; the stack and the runtime's session are the board's.

    Attributes:
        arena_bytes: Activations, gradients and masks of one training step.
        parameter_bytes: Trained parameters.
        state_bytes: Optimiser state.
        scale_bytes: Delayed scales of the gradients.
        io_bytes: Label and output.
    """

    arena_bytes: int
    parameter_bytes: int
    state_bytes: int
    scale_bytes: int
    io_bytes: int

    @property
    def ram_bytes(self) -> int:
        """All of it."""
        kept = self.parameter_bytes + self.state_bytes + self.scale_bytes
        return self.arena_bytes + kept + self.io_bytes


def memory_need(program: Program, plan: Plan, scales: int) -> MemoryNeed:
    """Adds up what lives in RAM.

    Args:
        program: Ordered, all tensors of their final type.
        plan: Of its arena.
        scales: Number of gradients with a delayed scale.
    """
    kept = kept_tensors(program)
    parameter_bytes = sum(t.size_bytes for t in kept if t.kind == "parameter")
    return MemoryNeed(
        arena_bytes=plan.arena_bytes,
        parameter_bytes=parameter_bytes,
        state_bytes=sum(t.size_bytes for t in kept) - parameter_bytes,
        scale_bytes=SCALE_BYTES * scales,
        io_bytes=sum(program.tensor(name).size_bytes for name in (program.label, program.output)),
    )


def kept_tensors(program: Program) -> list[Tensor]:
    """Tensors in RAM that outlive a step: trained parameters, then optimiser state."""
    tensors = program.tensors.values()
    parameters = [t for t in tensors if t.kind == "parameter" and t.trainable]
    return parameters + [t for t in tensors if t.kind == "state"]
