"""Cycles of a Cortex-M7: an approximation of its two-way, in-order issue.

ARM publishes no table for it. Structure: Arm Cortex-M7 Processor Technical Reference Manual
(DDI 0489): in-order, two instructions a cycle, also two loads or a load and a store, branch
prediction. Latencies and pairing rules: measured by others (quinapalus.com/cm7cycles.html), in
round figures. Caches and tightly coupled memory are taken to hit always.
"""

from __future__ import annotations

from collections.abc import Sequence

from ondevice.estimate.instructions import Instruction
from ondevice.estimate.kinds import Kind

MISPREDICTED_CYCLES = 7.0  # a refill of the six-stage pipeline
DIVIDE_CYCLES = 7  # by the operands
FP_DIVIDE_CYCLES = 14

# Cycles from issue until another instruction may use the result; 1 for all others.
_LATENCY: dict[Kind, int] = {
    "load": 2,
    "multiply": 2,
    "mac": 2,
    "divide": DIVIDE_CYCLES,
    "fp": 3,
    "fp_mac": 5,
    "fp_divide": FP_DIVIDE_CYCLES,
}
# There is one unit of these; loads have two ways to memory, and so has the ALU.
_UNIT: dict[Kind, str] = {
    "multiply": "multiplier",
    "mac": "multiplier",
    "dsp": "multiplier",
    "fp": "fpu",
    "fp_mac": "fpu",
    "fp_move": "fpu",
    "store": "store",
    "branch": "branch",
}
_ALONE: tuple[Kind, ...] = ("load_multiple", "store_multiple", "divide", "fp_divide", "other")
_BUSY: dict[Kind, int] = {"divide": DIVIDE_CYCLES, "fp_divide": FP_DIVIDE_CYCLES}


def costs(block: Sequence[Instruction]) -> list[float]:
    """Cycles that each instruction adds to a basic block: 0 for the second of a pair."""
    ready: dict[str, int] = {}
    cycles: list[float] = []
    now, end = -1, 0  # cycle of the last issue, and the first cycle after all of them
    paired: Instruction | None = None  # issued in cycle `now`, and not yet joined
    for instruction in block:
        earliest = max([now, *(ready.get(register, 0) for register in instruction.operands.reads)])
        if paired is None or earliest > now or not _pair(paired, instruction):
            now = max(earliest, end)
            paired = None if instruction.kind in _ALONE else instruction
        else:
            paired = None
        before, end = end, max(end, now + _occupied(instruction))
        cycles.append(float(end - before))
        for register in instruction.operands.writes:
            ready[register] = now + _latency(instruction)
    return cycles


def taken_cycles(instruction: Instruction) -> float:
    """What a jump costs more where it is taken: nothing, for it is predicted, but for a table's."""
    return MISPREDICTED_CYCLES if instruction.mnemonic.startswith("tb") else 0.0


def _pair(first: Instruction, second: Instruction) -> bool:
    """Whether both can be issued in one cycle; operands are known to be ready."""
    unit = _UNIT.get(second.kind)
    return (
        second.kind not in _ALONE
        and not first.jumps
        and not first.operands.writes & (second.operands.reads | second.operands.writes)
        and (unit is None or _UNIT.get(first.kind) != unit)
    )


def _occupied(instruction: Instruction) -> int:
    if instruction.kind in ("load_multiple", "store_multiple"):
        return max(1, -(-instruction.operands.words // 2))  # 64 bits a cycle
    return _BUSY.get(instruction.kind, 1)


def _latency(instruction: Instruction) -> int:
    if instruction.kind == "load_multiple":
        return _occupied(instruction) + 1
    return _LATENCY.get(instruction.kind, 1)
