"""The most stack that a firmware can use, from its code alone.

Frames of our C are what gcc says (-fcallgraph-info=su, a .ci file an object); those of libgcc and
newlib are all that they push, from the disassembly, which gives every call too. Calls through
pointers are resolved by the field that holds the pointer. Recursion, a call that nobody declared,
or a frame whose size is not known is refused: then there is no bound.
"""

from __future__ import annotations

import fnmatch
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.elffile import ELFFile

from ondevice.boards import Board
from ondevice.errors import UserError
from ondevice.linker_script import HANDLER_STACK_BYTES
from ondevice.places import project_root

PROGRAM = "run"  # of startup.c: all that runs on the program's stack
START = "reset_handler"  # on the handlers' stack, as are interrupts
HANDLERS = ("uart_interrupt", "nmi_handler", "fault_handler")
# What a function pointer's field may hold, as patterns of FILE:FUNCTION.
FIELDS: Mapping[str, tuple[str, ...]] = {
    # od_model_t
    "reset": ("model.c:reset",),
    "evaluate": ("model.c:evaluate",),
    "train": ("model.c:train",),
    "apply": ("model.c:apply",),
    # od_round_operations_t and od_codec_t
    "upload": ("round.c:upload",),
    "begin": ("round.c:begin",),
    "end": ("round.c:end",),
    "pull": ("round.c:pull",),
    "compress": ("codec_*.c:compress",),
    "encode": ("codec_*.c:encode",),
    # od_port_t and od_trace_t
    "write": ("main.c:port_write",),
    "counter": ("*:board_counter",),
    "stack_paint": ("main.c:port_stack_paint",),
    "stack_high_water": ("main.c:port_stack_high_water",),
    "exit": ("main.c:port_exit",),
    # od_storage_t
    "read": ("*flash*.c:read", "*flash*.c:flash_read"),
    "program": ("*flash*.c:program", "*flash*.c:flash_program"),
    "erase": ("*flash*.c:erase", "*flash*.c:flash_erase"),
    # the table of requests
    "handle": ("*_requests.c:od_handle_*", "device_info.c:od_handle_*", "requests.c:handle_*"),
}
# Jumps in assembler, and to where.
JUMPS: Mapping[str, tuple[str, ...]] = {
    "reset_handler": (),  # to `run`, on its own stack
    "fault_handler": ("fault_taken",),
    "nmi_handler": (),  # to fault_handler, which begins its stack anew
}
# Core registers, and the floating-point ones where there are such; and a word to align.
_EXCEPTION_BYTES, _EXCEPTION_FLOAT_BYTES = 8 * 4 + 4, (8 + 18) * 4 + 4
_NODE = re.compile(
    r'node: \{ title: "([^"]+)" label: "[^"]*\\n([^"\\]+):\d+:\d+\\n(\d+) bytes \((.*)\)"'
)
_INDIRECT = re.compile(
    r'edge: \{ sourcename: "([^"]+)" targetname: "__indirect_call" label: "([^"]+)"'
)
_HEAD = re.compile(r"^[0-9a-f]+ <(.+)>:$")
_CODE = re.compile(r"^\s*([0-9a-f]+):\t(\S+)(?:\t(.*))?$")
_TARGET = re.compile(r"\b([0-9a-f]+) <")


class StackBoundError(UserError):
    """The code has no bound that can be worked out."""


@dataclass(frozen=True)
class StackBound:
    """The most that each stack can hold.

    Attributes:
        program_bytes: Of the program's stack, the frame of one exception included.
        handler_bytes: Of the handlers' stack.
        deepest: The functions of the program's deepest path, outermost first.
    """

    program_bytes: int
    handler_bytes: int
    deepest: tuple[str, ...]


@dataclass
class _Function:
    name: str
    file: str  # empty for a library's
    frame_bytes: int | None = None
    calls: set[int] = field(default_factory=set)
    calls_pointers: bool = False
    pointers_known: bool = False

    @property
    def title(self) -> str:
        return f"{self.file}:{self.name}"


def stack_bound(elf: Path, objects: Path, root: Path, board: Board) -> StackBound:
    """Works out the bound of a firmware.

    Args:
        elf: The firmware, with symbols.
        objects: Folder of its objects and their .ci files.
        root: Folder that names of sources in those are relative to.
        board: Tells the size of an exception's frame.

    Raises:
        StackBoundError: Recursion, a call through a pointer that `FIELDS` does not know, or a
            frame of unknown size.
    """
    functions = _symbols(elf)
    _read_code(elf, functions)
    _read_call_graphs(objects, root, functions)
    depths = _Depths(functions)
    frame = _EXCEPTION_FLOAT_BYTES if board.fpu else _EXCEPTION_BYTES
    frame = (frame + 7) // 8 * 8
    deepest, path = depths.of(PROGRAM)
    found = {function.name for function in functions.values()}
    handlers = {name: depths.of(name)[0] for name in HANDLERS if name in found}
    # Of interrupts, one is enabled; a non-maskable one may come in it, and a fault ends both.
    nested = handlers.get("uart_interrupt", 0) + frame + handlers.get("nmi_handler", 0)
    most = max(nested, handlers.get("fault_handler", 0), depths.of(START)[0])
    return StackBound(frame + deepest, most, path)


def firmware_stack_bound(elf: Path, board: Board) -> StackBound:
    """The bound of a firmware that `build_firmware` made, which fits its board.

    Raises:
        StackBoundError: It does not, or it has none; see `stack_bound` and `check_stack_bound`.
    """
    bound = stack_bound(elf, elf.parent, project_root(), board)
    check_stack_bound(bound, board)
    return bound


def check_stack_bound(bound: StackBound, board: Board) -> None:
    """Refuses a firmware whose stacks may overflow.

    Raises:
        StackBoundError: By how much, and where.
    """
    if bound.program_bytes > board.stack_bytes:
        raise StackBoundError(
            f"the firmware may use {bound.program_bytes} B of stack and {board.name} reserves "
            f"{board.stack_bytes} B (deepest: {' > '.join(bound.deepest[-6:])}); raise stack_bytes "
            f"in boards/{board.name}.ini"
        )
    if bound.handler_bytes > HANDLER_STACK_BYTES:
        raise StackBoundError(
            f"the interrupts of {board.name} may use {bound.handler_bytes} B of stack and have "
            f"{HANDLER_STACK_BYTES} B; raise HANDLER_STACK_BYTES"
        )


def _symbols(elf: Path) -> dict[int, _Function]:
    """Functions by address; a local one follows the symbol of its file."""
    functions: dict[int, _Function] = {}
    with elf.open("rb") as file:
        source = ""
        for symbol in ELFFile(file).get_section_by_name(".symtab").iter_symbols():
            kind, bind = symbol["st_info"]["type"], symbol["st_info"]["bind"]
            if kind == "STT_FILE":
                source = Path(symbol.name).name
            elif kind == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF":
                address = symbol["st_value"] & ~1
                local = bind == "STB_LOCAL"
                if address not in functions or not local:
                    functions[address] = _Function(symbol.name, source if local else "")
    return functions


def _read_code(elf: Path, functions: dict[int, _Function]) -> None:
    """Adds direct calls, and the bytes that a function pushes in all."""
    command = ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", str(elf)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    current: _Function | None = None
    for line in text.splitlines():
        code = _CODE.match(line)
        if code is None:
            if _HEAD.match(line):
                current = functions.get(int(line.split()[0], 16), current)
            continue
        if current is None:
            continue
        mnemonic, operands = code[2].split(".")[0], code[3] or ""
        current.frame_bytes = (current.frame_bytes or 0) + _pushed(mnemonic, operands)
        current.calls_pointers |= (
            mnemonic == "blx" and re.match(r"(r\d+|ip|lr)$", operands) is not None
        )
        target = _TARGET.search(operands)
        if target is not None and re.match(r"(bl|b..|b|cbn?z)$", mnemonic):
            to = int(target[1], 16)
            # A branch back to the start of its own function is a loop.
            if to in functions and (functions[to] is not current or mnemonic == "bl"):
                current.calls.add(to)


def _pushed(mnemonic: str, operands: str) -> int:
    """Bytes that an instruction takes from the stack."""
    registers = operands[operands.find("{") :]
    if mnemonic == "push" or (mnemonic == "stmdb" and operands.startswith("sp!")):
        return 4 * _count(registers)
    if mnemonic == "vpush" or (mnemonic == "vstmdb" and operands.startswith("sp!")):
        return (8 if "d" in registers else 4) * _count(registers)
    less = re.match(r"sp, (?:sp, )?#(\d+)", operands)
    if mnemonic in ("sub", "subw") and less is not None:
        return int(less[1])
    before = re.search(r"\[sp, #-(\d+)\]!", operands)
    return int(before[1]) if before is not None and mnemonic.startswith("st") else 0


def _count(registers: str) -> int:
    """Registers in a list such as {r0, r4-r7, lr}."""
    total = 0
    for item in registers.strip("{} ").split(","):
        first, _, last = item.strip().partition("-")
        total += int(last[1:]) - int(first[1:]) + 1 if last else 1
    return total


def _read_call_graphs(objects: Path, root: Path, functions: dict[int, _Function]) -> None:
    """Adds the frames that gcc knows, and the calls through pointers."""
    named: dict[tuple[str, str], list[_Function]] = {}
    for function in functions.values():
        named.setdefault((function.file, function.name), []).append(function)
    indirect: list[tuple[_Function, str]] = []
    for path in sorted(objects.rglob("*.ci")):
        text = path.read_text(encoding="utf-8")
        here: dict[str, _Function] = {}
        for title, source, size, kind in _NODE.findall(text):
            name = title.rpartition(":")[2]
            file = Path(source).name
            # A clone of an inlined header's function counts for the file that has it.
            unit = Path(title.rpartition(":")[0]).name
            candidates = named.get((unit, name), []) if unit else named.get(("", name), [])
            for function in candidates:
                function.file = function.file or file
                if kind not in ("static", "dynamic,bounded"):
                    raise StackBoundError(f"{title}: the size of its stack frame is not known")
                if int(size) > 0:  # 0: none, or written in assembler
                    function.frame_bytes = int(size)
                here[title] = function
        indirect += [(here[t], place) for t, place in _INDIRECT.findall(text) if t in here]
    for function, place in indirect:
        function.pointers_known = True
        for pattern in FIELDS[_field(place, root)]:
            function.calls |= {
                address
                for address, other in functions.items()
                if fnmatch.fnmatch(other.title, pattern)
            }


def _field(place: str, root: Path) -> str:
    """Name of the field through which the call at FILE:LINE:COLUMN goes."""
    file, line, column = place.rsplit(":", 2)
    lines = (root / file).read_text(encoding="utf-8").splitlines()[int(line) - 1 :][:3]
    # The column is of the call's first letter, or of its parenthesis.
    for start in (int(column) - 1, 0):
        found = re.search(r"(?:->|\.)(\w+)\(", "\n".join(lines)[start:])
        if found is not None and found[1] in FIELDS:
            return found[1]
    raise StackBoundError(
        f"{place}: a call through a pointer that stack_bound.FIELDS does not know"
    )


class _Depths:
    def __init__(self, functions: Mapping[int, _Function]) -> None:
        self._functions = functions
        self._known: dict[int, tuple[int, tuple[str, ...]]] = {}
        self._open: list[int] = []

    def of(self, name: str) -> tuple[int, tuple[str, ...]]:
        """Bytes below and with a function, and the path that takes them."""
        found = [address for address, f in self._functions.items() if f.name == name]
        if not found:
            raise StackBoundError(f"the firmware has no function {name}")
        return self._at(found[0])

    def _at(self, address: int) -> tuple[int, tuple[str, ...]]:
        function = self._functions[address]
        if address in self._open:
            names = [self._functions[a].name for a in self._open[self._open.index(address) :]]
            raise StackBoundError(f"recursion has no bound: {' > '.join([*names, function.name])}")
        if function.calls_pointers and not function.pointers_known:
            raise StackBoundError(f"{function.name} calls through a pointer; nobody says whom")
        if address not in self._known:
            self._open.append(address)
            below = max((self._at(to) for to in self._targets(function)), default=(0, ()))
            self._open.pop()
            total = (function.frame_bytes or 0) + below[0]
            self._known[address] = total, (function.name, *below[1])
        return self._known[address]

    def _targets(self, function: _Function) -> Iterator[int]:
        if function.name not in JUMPS:
            yield from function.calls
            return
        yield from (to for to in function.calls if self._functions[to].name not in HANDLERS)
        for name in JUMPS[function.name]:
            yield from (a for a, f in self._functions.items() if f.name == name)
