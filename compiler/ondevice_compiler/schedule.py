"""The stages that depend on the update scheme, from selection to the memory plan.

They take milliseconds where loading, calibration and code generation take seconds: `schedule` says
exactly what RAM and how many multiply-accumulates a scheme costs, without generating its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ondevice_compiler.autodiff import Joint
from ondevice_compiler.calibrate import Calibration
from ondevice_compiler.fuse import fuse
from ondevice_compiler.memory import MemoryNeed, memory_need
from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.order import order
from ondevice_compiler.plan import Plan, plan_program
from ondevice_compiler.program import Program
from ondevice_compiler.quantize import quantize
from ondevice_compiler.scheme import UpdateScheme, select
from ondevice_compiler.updates import Optimizer


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
    joint: Joint, calibration: Calibration | None, scheme: UpdateScheme, optimizer: Optimizer
) -> Schedule:
    """Runs select, fuse, quantize, order and plan.

    Args:
        joint: The differentiated model; shared by all schemes.
        calibration: Its ranges for int8; None: float32.
        scheme: From `resolve_scheme`.
        optimizer: Update rule.

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
    stages["order"] = order(program)
    return Schedule(scheme, stages, histories, plan_program(stages["order"]))
