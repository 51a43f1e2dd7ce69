"""A fault of a board's firmware: the FAULT frame of docs/PROTOCOL.md, and its meaning in words."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ondevice.errors import UserError

if TYPE_CHECKING:
    from ondevice.source_lines import SourceLines

_CALLERS = 8
_FAULT = struct.Struct(f"<BBH{8 + _CALLERS}I")
_REGISTERS, _AGAIN = 1, 2
_CALLERS_TOLD = 3

# Bits of CFSR, ARMv7-M ARM B3.2.15 and ARMv8-M ARM D1.2.10; the first that is set is the cause.
_CAUSES = (
    (25, "division by zero"),
    (24, "unaligned access"),
    (20, "stack overflow"),
    (19, "use of a coprocessor that is off or missing"),
    (18, "jump by a damaged return address"),
    (17, "jump to an address that is no Thumb code"),
    (16, "undefined instruction"),
    (0, "jump to a forbidden address"),
    (1, "access to a forbidden address"),
    (3, "damaged stack at the end of an interrupt"),
    (4, "no room on the stack for an interrupt"),
    (5, "no room on the stack for the floats of an interrupt"),
    (8, "jump to an address where nothing is"),
    (9, "access to an address where nothing is"),
    (10, "late write to an address where nothing is (somewhat before this place)"),
    (11, "damaged stack at the end of an interrupt"),
    (12, "no room on the stack for an interrupt"),
    (13, "no room on the stack for the floats of an interrupt"),
)
_DIVISIONS = ("__aeabi_idiv0", "__aeabi_ldiv0")  # where the CPU has no instruction for it
_MMAR_VALID, _BFAR_VALID = 1 << 7, 1 << 15


class FaultKind(IntEnum):
    """What ended the firmware's run."""

    HARD = 1
    MEMORY = 2
    BUS = 3
    USAGE = 4
    STACK = 5
    WATCHDOG = 6
    NMI = 7
    INTERRUPT = 8
    BROWN_OUT = 9


@dataclass(frozen=True)
class Fault:
    """What the fault handler wrote down.

    Attributes:
        kind: As in the frame; `FaultKind` where this version knows it.
        exception: Number of the exception; 0: none.
        registers: Whether pc, lr and xpsr are known; not after a stack that overflowed.
        again: Sent after the restart, for who missed it.
        callers: What looks like return addresses on the stack, innermost first.
        pc: Of the instruction that failed.
        lr: Link register then.
        sp: Stack pointer then.
        xpsr: Program status then.
        cfsr: Configurable fault status; 0 on ARMv6-M, as the next three.
        hfsr: HardFault status.
        mmfar: Address of a MemManage fault, where CFSR says so.
        bfar: Address of a bus fault, where CFSR says so.
    """

    kind: int
    exception: int
    registers: bool
    again: bool
    callers: tuple[int, ...]
    pc: int
    lr: int
    sp: int
    xpsr: int
    cfsr: int
    hfsr: int
    mmfar: int
    bfar: int


def decode_fault(payload: bytes) -> Fault | None:
    """Decodes FAULT; None where its length is another one."""
    if len(payload) != _FAULT.size:
        return None
    kind, flags, exception, *numbers = _FAULT.unpack(payload)
    callers = tuple(number for number in numbers[8:] if number)
    known, again = bool(flags & _REGISTERS), bool(flags & _AGAIN)
    return Fault(kind, exception, known, again, callers, *numbers[:8])


def fault_cause(fault: Fault, lines: SourceLines | None = None) -> str:
    """Says in a few words what happened."""
    if fault.kind == FaultKind.STACK:
        return "stack overflow"
    if fault.kind == FaultKind.WATCHDOG:
        return "it hung, and its watchdog ended that"
    if fault.kind == FaultKind.BROWN_OUT:
        return "its supply voltage fell too low (brown-out)"
    if fault.kind == FaultKind.NMI:
        return "non-maskable interrupt of unknown cause"
    if fault.kind == FaultKind.INTERRUPT:
        return f"interrupt {fault.exception - 16} that no driver expects"
    if lines is not None and lines.function(fault.pc) in _DIVISIONS:
        return "division by zero"
    for bit, text in _CAUSES:
        if fault.cfsr & 1 << bit:
            return text + _address(fault)
    if lines is not None and fault.registers:
        return _cause_without_status(fault, lines)
    return "bad access or undefined instruction"


def describe_fault(fault: Fault, elf: Path | None = None) -> str:
    """Says in one line what happened and where.

    Args:
        fault: From the board.
        elf: The firmware that the board runs, if it is at hand; else addresses are shown.
    """
    lines = _source_lines(elf)
    text = fault_cause(fault, lines)
    if lines is None:
        known = [fault.pc] if fault.registers else fault.callers[:1]
        return text + "".join(f" near {address:#010x}" for address in known)
    places = lines.places(fault)
    if places:
        text += f" {'in' if fault.registers else 'in or below'} {places[0]}"
    if len(places) > 1:
        text += f", called from {', '.join(places[1 : 1 + _CALLERS_TOLD])}"
    return text


def _source_lines(elf: Path | None) -> SourceLines | None:
    from ondevice.source_lines import SourceLines

    try:
        return None if elf is None else SourceLines(elf)
    except UserError:  # it was cleaned away meanwhile; the addresses remain
        return None


def _address(fault: Fault) -> str:
    if fault.cfsr & _MMAR_VALID:
        return f" ({fault.mmfar:#010x})"
    if fault.cfsr & _BFAR_VALID:
        return f" ({fault.bfar:#010x})"
    return ""


def _cause_without_status(fault: Fault, lines: SourceLines) -> str:
    """ARMv6-M does not say; the instruction does."""
    halfword = lines.halfword(fault.pc)
    if halfword is None:
        return "jump to an address where nothing is"
    if halfword & 0xFF00 == 0xDE00 or halfword & 0xFFF0 == 0xF7F0:
        return "undefined instruction"
    return "access to an address that is unaligned or where nothing is"
