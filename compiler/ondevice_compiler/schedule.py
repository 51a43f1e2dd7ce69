"""The stages that depend on the update scheme, from selection to the memory plan.

They take a second at most where loading, calibration and code generation take many: `schedule` says
exactly what RAM and how many multiply-accumulates a scheme costs, without generating its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ondevice_compiler.autodiff import Joint
from ondevice_compiler.calibrate import Calibration
from ondevice_compiler.compression import Compression, with_round_state
from ondevice_compiler.fuse import fuse
from ondevice_compiler.memory import MemoryNeed, memory_need
from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.order import order
from ondevice_compiler.plan import Plan, plan_program
from ondevice_compiler.program import Program
from ondevice_compiler.quantize import quantize
from ondevice_compiler.rematerialise import rematerialise
from ondevice_compiler.scheme import UpdateScheme, select
from ondevice_compiler.strip_search import choose_strips
from ondevice_compiler.updates import Optimizer
from ondevice_compiler.views import contiguous_slices, slices_as_views


@dataclass(frozen=True)
class MemoryOptions:
    """What is done to make the arena smaller; the training step computes the same.

    Attributes:
        reorder: Search for the order of steps that needs the least.
        patch: Execute runs of forward steps band by band of rows.
        in_place: Write outputs over inputs that die, as far as the kernels' reads allow, and read
            slices that are contiguous where they lie.
        remat_macs_cap: Share of the step's multiply-accumulates that may be spent on computing
            activations again instead of keeping them.
    """

    reorder: bool = True
    patch: bool = True
    in_place: bool = True
    remat_macs_cap: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """A training step of one scheme, ordered and planned.

    Attributes:
        scheme: What it trains.
        stages: The program after each stage, by the stage's name.
        histories: First history of each delayed gradient scale; empty in float32.
        plan: Arena offsets.
    """

    scheme: UpdateScheme
    stages: Mapping[str, Program]
    histories: Mapping[str, float]
    plan: Plan

    @property
    def program(self) -> Program:
        """The final program."""
        return self.stages["order"]

    @property
    def memory(self) -> MemoryNeed:
        """RAM of the model's buffers, as in the manifest."""
        return memory_need(self.program, self.plan, len(self.histories))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one training step: forward, backward and update."""
        steps = (step for step in self.program.steps if step.phase != "apply")
        return sum(OPERATORS[step.op].macs(step, self.program) for step in steps)


def schedule(
    joint: Joint,
    calibration: Calibration | None,
    scheme: UpdateScheme,
    optimizer: Optimizer,
    memory: MemoryOptions | None = None,
    compression: Compression | None = None,
) -> Schedule:
    """Runs select, fuse, quantize, order and plan.

    Args:
        joint: The differentiated model; shared by all schemes.
        calibration: Its ranges for int8; None: float32.
        scheme: From `resolve_scheme`.
        optimizer: Update rule.
        memory: What is done to save memory; None: everything.
        compression: What a federated round keeps; None: nothing.

    Raises:
        UserError: The model cannot be quantised.
    """
    stages = {"select": select(joint.program, scheme)}
    program = stages["fuse"] = fuse(stages["select"], optimizer)
    histories: Mapping[str, float] = {}
    if calibration is not None:
        quantized = quantize(program, calibration, joint.loaded.input_quantization)
        program, histories = quantized.program, quantized.histories
        stages["quantize"] = program
    memory = memory or MemoryOptions()
    if memory.remat_macs_cap:
        program = rematerialise(program, memory.remat_macs_cap, memory.in_place)
    ordered, plan = _with_views(program, memory)
    stages["order"] = with_round_state(ordered, compression or Compression())
    return Schedule(scheme, stages, histories, plan)


def _with_views(program: Program, memory: MemoryOptions) -> tuple[Program, Plan]:
    """Arranged with as many views, all or else one by one, as do not make the arena larger."""
    best = _arranged(program, memory)
    slices = contiguous_slices(program) if memory.in_place else ()
    chosen: tuple[str, ...] = ()
    for more in (slices, *((name,) for name in slices)):
        if chosen == slices:
            break
        found = _arranged(slices_as_views(program, chosen + more), memory)
        if found[1].arena_bytes <= best[1].arena_bytes:
            best, chosen = found, chosen + more
    return best


def _arranged(program: Program, memory: MemoryOptions) -> tuple[Program, Plan]:
    """A program ordered, its strips chosen, and the plan of its arena."""
    program = order(program, memory.in_place, memory.reorder)
    if memory.patch:
        program = choose_strips(program, memory.in_place)
    return program, plan_program(program, memory.in_place)
