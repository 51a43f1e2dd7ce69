"""Cycles of a Cortex-M4, from ARM's tables.

Source: Arm Cortex-M4 Processor Technical Reference Manual (100166): the table of processor
instructions and load/store timings (section 3.3), and the table of FPU instructions; memory without
wait states. What the tables leave open is a constant here.
"""

from __future__ import annotations

from collections.abc import Sequence

from ondevice.estimate.instructions import Instruction

REFILL_CYCLES = 2  # P: 1 to 3 by alignment and width of the target
DIVIDE_CYCLES = 7  # 2 to 12 by the operands
FP_DIVIDE_CYCLES = 14
FP_MAC_CYCLES = 3
TABLE_BRANCH_CYCLES = 6  # load, add, and refill, at least

_COMPUTES = ("alu", "dsp", "multiply", "mac", "divide")
_FP = ("fp", "fp_mac", "fp_divide")


def costs(block: Sequence[Instruction]) -> list[float]:
    """Cycles of each instruction of a basic block, no jump taken."""
    cycles: list[float] = []
    previous: Instruction | None = None
    for instruction in block:
        cycles.append(_own(instruction, previous) + _stall(instruction, previous))
        previous = instruction
    return cycles


def taken_cycles(instruction: Instruction) -> float:
    """What a jump costs more where it is taken: the refill of the pipeline."""
    if instruction.mnemonic.startswith("tb"):
        return TABLE_BRANCH_CYCLES - 1
    return REFILL_CYCLES if instruction.jumps else 0.0


def _own(instruction: Instruction, previous: Instruction | None) -> float:
    match instruction.kind:
        case "load" | "store":
            pipelined = (
                previous is not None
                and previous.kind == "load"
                and not previous.operands.writes & instruction.operands.address
            )
            indexed = len(instruction.operands.address) > 1
            one = instruction.kind == "store" and not indexed and instruction.mnemonic[0] != "v"
            return 1.0 if one else instruction.operands.words + 1.0 - pipelined
        case "load_multiple" | "store_multiple":
            return 1.0 + instruction.operands.words
        case "divide":
            return DIVIDE_CYCLES
        case "fp_divide":
            return FP_DIVIDE_CYCLES
        case "fp_mac":
            return FP_MAC_CYCLES
        case "it":  # folded onto a 16-bit instruction before it
            return 0.0 if previous is not None and previous.size_bytes == 2 else 1.0
        case _:
            return 1.0


def _stall(instruction: Instruction, previous: Instruction | None) -> float:
    if previous is None:
        return 0.0
    # No forwarding from the ALU to an address, and results of the FPU come a cycle late.
    late = previous.kind in _COMPUTES and bool(
        previous.operands.writes & instruction.operands.address
    )
    late |= previous.kind in _FP and bool(previous.operands.writes & instruction.operands.reads)
    return float(late)
