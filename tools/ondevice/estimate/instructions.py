"""The instructions of a firmware: where each is, what it is, and its registers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ondevice.build import require_tool
from ondevice.errors import UserError
from ondevice.estimate.kinds import Kind, kind_of
from ondevice.estimate.operands import Operands, operands_of, split_operands

_LINE = re.compile(r" *([0-9a-f]+):\t([0-9a-f]{4}(?: [0-9a-f]{4})?) *\t([a-z][\w.]*)(?:\t(.*))?")
_LABEL = re.compile(r"[0-9a-f]+ <(.+)>:")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a firmware.

    Attributes:
        address: Of its first byte.
        size_bytes: 2 or 4.
        mnemonic: Without its width: "ldrb", "addne", "vmul.f32".
        kind: What it is for the cost models.
        operands: Its registers.
        target: Of a direct branch; None: there is none, or it is indirect.
    """

    address: int
    size_bytes: int
    mnemonic: str
    kind: Kind
    operands: Operands
    target: int | None = None

    @property
    def jumps(self) -> bool:
        """Whether another instruction than the one behind it may follow."""
        return self.kind == "branch" or "pc" in self.operands.writes

    @property
    def calls(self) -> bool:
        """Whether it calls a function."""
        return self.mnemonic in ("bl", "blx")


def disassemble(elf: Path) -> list[list[Instruction]]:
    """The functions of a firmware.

    Raises:
        UserError: objdump is missing or fails.
    """
    require_tool("arm-none-eabi-objdump")
    done = subprocess.run(
        ["arm-none-eabi-objdump", "-d", str(elf)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise UserError(f"{elf}: cannot be disassembled: {done.stderr.strip()}")
    return list(parse_listing(done.stdout.splitlines()))


def parse_listing(lines: Iterable[str]) -> Iterator[list[Instruction]]:
    """Reads what objdump prints; data between the instructions is left out."""
    function: list[Instruction] = []
    for line in lines:
        if _LABEL.fullmatch(line) and function:
            yield function
            function = []
        match = _LINE.fullmatch(line)
        if match is not None:
            address, code, mnemonic, operands = match.groups()
            size_bytes = len(code.replace(" ", "")) // 2
            text = re.split("[@;]", operands or "")[0].strip()
            function.append(parse_instruction(int(address, 16), size_bytes, mnemonic, text))
    if function:
        yield function


def parse_instruction(address: int, size_bytes: int, mnemonic: str, operands: str) -> Instruction:
    """Says what an instruction is from its text."""
    name = re.sub(r"\.[wn]$", "", mnemonic)
    kind = kind_of(name)
    text = re.sub("<.*>", "", operands).strip()  # a symbol may look like a register
    registers = operands_of(name, kind, text)
    return Instruction(address, size_bytes, name, kind, registers, _target(name, kind, text))


def _target(name: str, kind: Kind, text: str) -> int | None:
    if kind != "branch" or name.startswith("tb"):
        return None
    last = split_operands(text)[-1]
    return int(last, 16) if re.fullmatch("[0-9a-f]+", last) else None
