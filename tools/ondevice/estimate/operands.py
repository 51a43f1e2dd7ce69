"""Which registers an instruction reads and writes, from its text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ondevice.estimate.kinds import Kind

_MULTIPLE = ("load_multiple", "store_multiple")
_COMPARES = re.compile("(cmp|cmn|tst|teq|vcmp).*")
# Of two operands these do not read the first.
_MOVES = re.compile("(mov|mvn|neg|sxt|uxt|clz|rev|rbit|adr|vmov|vcvt|vabs|vneg|vmrs|ldr|vldr).*")
# These read their destination however many operands they have.
_KEEPS = re.compile("(movt|bfi|bfc|smlal|smlsld|umlal|umaal|vn?ml[as]|vfn?m[as]).*")
_LONG = re.compile("(smull|umull|smlal|smlsld|umlal|umaal).*")  # a product of 64 bits
_REGISTER = re.compile(r"\b(?:([sd])(\d+)-[sd](\d+)|(r\d+|sl|fp|ip|sp|lr|pc|[sd]\d+))\b")


@dataclass(frozen=True)
class Operands:
    """The registers of one instruction; a double register as its two singles.

    Attributes:
        reads, writes: All of them, but for the flags.
        address: Those that an address is made of.
        words: Transferred by a load or store.
    """

    reads: frozenset[str]
    writes: frozenset[str]
    address: frozenset[str] = frozenset()
    words: int = 0


def operands_of(mnemonic: str, kind: Kind, text: str) -> Operands:
    """Reads the operands as objdump prints them, without comments and symbols."""
    parts = split_operands(text)
    if kind in _MULTIPLE and "{" in text:
        return _list_transfer(mnemonic, kind, text)
    if kind in ("load", "store", *_MULTIPLE):
        return _transfer(kind, text, parts)
    if kind == "branch" or _COMPARES.fullmatch(mnemonic):
        return Operands(registers(text), frozenset())
    writes = registers(parts[0])
    if _LONG.fullmatch(mnemonic):
        writes |= registers(parts[1])
    accumulates = len(parts) == 2 and not _MOVES.fullmatch(mnemonic)
    if accumulates or _KEEPS.fullmatch(mnemonic):
        return Operands(registers(text), writes)
    return Operands(_all(parts[1:]), writes)


def split_operands(text: str) -> list[str]:
    """Cuts at the commas outside of brackets and braces."""
    return [part.strip() for part in re.split(r",(?![^\[{]*[\]}])", text)]


def registers(text: str) -> frozenset[str]:
    """The registers that a text names."""
    found: set[str] = set()
    for match in _REGISTER.finditer(text):
        letter, first, last, single = match.groups()
        span = range(int(first), int(last) + 1) if letter else ()
        for name in [f"{letter}{n}" for n in span] or [single]:
            number = name[1:]
            if name[0] == "d" and number.isdigit():
                found |= {f"s{2 * int(number)}", f"s{2 * int(number) + 1}"}
            else:
                found.add(name)
    return frozenset(found)


def _list_transfer(mnemonic: str, kind: Kind, text: str) -> Operands:
    """ldm, stm, push, pop and their like of the FPU."""
    start = text.index("{")
    listed = registers(text[start:])
    base = registers(text[:start]) or frozenset({"sp"})
    moves = "!" in text or "push" in mnemonic or "pop" in mnemonic
    moved = base if moves else frozenset[str]()
    if kind == "load_multiple":
        return Operands(base, moved | listed, base, len(listed))
    return Operands(base | listed, moved, base, len(listed))


def _transfer(kind: Kind, text: str, parts: list[str]) -> Operands:
    """ldr, str and their like, ldrd, strd."""
    count = 2 if kind in _MULTIPLE else 1
    data = _all(parts[:count])
    address = _all([part for part in parts[count:] if part.startswith("[")])
    moves = text.endswith("!") or not text.endswith("]")
    moved = address if moves else frozenset[str]()
    words = max(count, len(data))
    reads = _all(parts[count:])
    if kind.startswith("load"):
        return Operands(reads, data | moved, address, words)
    return Operands(reads | data, moved, address, words)


def _all(parts: list[str]) -> frozenset[str]:
    return frozenset(name for part in parts for name in registers(part))
