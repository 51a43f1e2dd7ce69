"""Which line of which C file an address of an ELF file is, and which calls led there."""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from ondevice.errors import UserError

if TYPE_CHECKING:
    from ondevice.fault import Fault


@dataclass(frozen=True)
class _Function:
    start: int
    end: int
    name: str


class SourceLines:
    """The symbols, code and line table of a Cortex-M ELF file."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            UserError: It is missing or no ELF file.
        """
        try:
            self._file = path.open("rb")
            self._elf = ELFFile(self._file)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        except ELFError as error:
            raise UserError(f"{path}: not an ELF file: {error}") from error
        symbols = self._elf.get_section_by_name(".symtab")
        self._functions = sorted(
            (
                _Function(start := symbol["st_value"] & ~1, start + symbol["st_size"], symbol.name)
                for symbol in ([] if symbols is None else symbols.iter_symbols())
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]
            ),
            key=lambda function: function.start,
        )
        self._starts = [function.start for function in self._functions]

    def function(self, address: int) -> str:
        """Name of the function that has the address, or nothing."""
        found = self._find(address)
        return "" if found is None else found.name.partition(".")[0]

    def halfword(self, address: int) -> int | None:
        """The halfword of code there; None outside."""
        for segment in self._elf.iter_segments("PT_LOAD"):
            offset = (address & ~1) - segment["p_vaddr"]
            if 0 <= offset <= segment["p_filesz"] - 2:
                self._file.seek(segment["p_offset"] + offset)
                return int(struct.unpack("<H", self._file.read(2))[0])
        return None

    def line(self, address: int) -> str:
        """``folder/file.c:LINE`` of the address, or nothing."""
        try:
            return self._line(address & ~1)
        except (DWARFError, KeyError):
            return ""

    def place(self, address: int) -> str:
        """``function (folder/file.c:LINE)``, or what of it is known."""
        name, line = self.function(address), self.line(address)
        if not name:
            return f"{address:#010x}"
        return f"{name} ({line})" if line else name

    def places(self, fault: Fault) -> list[str]:
        """Where it failed, and the calls that led there, innermost first.

        Where the program counter is not known, the first is what the innermost known call called:
        it is there, or in what that calls.
        """
        chain = self._callers(fault)
        if fault.registers:
            first: int | None = fault.pc
        else:
            first = self._call_target(chain[0]) if chain else None
        addresses = [*([] if first is None else [first]), *(caller - 2 for caller in chain)]
        told = [self.place(address) for address in addresses if not self._is_library(address)]
        return told or [self.place(address) for address in addresses[:1]]

    def _callers(self, fault: Fault) -> list[int]:
        """Return addresses that fit together.

        The stack also has stale ones. A true one stands behind a call of the function that has the
        address before; a call by pointer fits to any.
        """
        chain: list[int] = []
        inner = self._find(fault.pc) if fault.registers else None
        candidates = [address & ~1 for address in fault.callers]
        if fault.registers and self._is_behind_call(fault.lr & ~1):
            candidates = [fault.lr & ~1, *candidates]
        for address in candidates:
            caller = self._find(address - 2)
            if caller is None or chain[-1:] == [address]:
                continue
            fits = inner is None or self._call_target(address) in (None, inner.start)
            # Where the CPU cannot divide, the compiler's division jumps to what ends here.
            if fits or (not chain and self._is_library(fault.pc)):
                chain.append(address)
                inner = caller
        return chain

    def _is_behind_call(self, address: int) -> bool:
        before = self.halfword(address - 2)
        by_pointer = before is not None and before & 0xFF87 == 0x4780
        return by_pointer or self._call_target(address) is not None

    def _call_target(self, address: int) -> int | None:
        """Where the BL before a return address goes; None for a call by pointer."""
        high, low = self.halfword(address - 4), self.halfword(address - 2)
        if high is None or low is None or high & 0xF800 != 0xF000 or low & 0xD000 != 0xD000:
            return None
        sign = high >> 10 & 1
        i1, i2 = 1 - (low >> 13 & 1 ^ sign), 1 - (low >> 11 & 1 ^ sign)
        offset = sign << 24 | i1 << 23 | i2 << 22 | (high & 0x3FF) << 12 | (low & 0x7FF) << 1
        return address + offset - (sign << 25)

    def _is_library(self, address: int) -> bool:
        """The compiler's own, such as its division, and what was built without lines."""
        return self.function(address).startswith("__") or not self.line(address)

    def _find(self, address: int) -> _Function | None:
        at = bisect_right(self._starts, address & ~1) - 1
        if at < 0 or address & ~1 >= self._functions[at].end:
            return None
        return self._functions[at]

    def _line(self, address: int) -> str:
        if not self._elf.has_dwarf_info():
            return ""
        dwarf = self._elf.get_dwarf_info()
        ranges = dwarf.get_aranges()
        offset = None if ranges is None else ranges.cu_offset_at_addr(address)
        if offset is None:
            return ""
        program = dwarf.line_program_for_CU(dwarf.get_CU_at(offset))
        before: Any = None
        for entry in [] if program is None else program.get_entries():
            state = entry.state
            if state is None:
                continue
            if before is not None and before.address <= address < state.address:
                return f"{_file_name(program, before.file)}:{before.line}"
            before = None if state.end_sequence else state
        return ""


def _file_name(program: Any, number: int) -> str:
    """The file and the folder that it is in."""
    header = program.header
    first = 0 if header.version >= 5 else 1
    entry = header.file_entry[number - first]
    folder = b""
    if header.version >= 5 or entry.dir_index > 0:
        folder = header.include_directory[entry.dir_index - first]
    path = Path(folder.decode("utf-8", "replace")) / entry.name.decode("utf-8", "replace")
    return "/".join(path.parts[-2:])
