"""Section "Memory": what the RAM goes to, against what the board has."""

from __future__ import annotations

from dataclasses import dataclass

from ondevice.html_report.history import History

_MODEL = (
    ("arena", "arena_bytes", "c1"),
    ("trained parameters", "parameter_bytes", "c3"),
    ("optimiser state", "state_bytes", "c4"),
    ("gradient scales", "scale_bytes", "c5"),
    ("label and output", "io_bytes", "c5"),
)


@dataclass(frozen=True)
class Part:
    """A part of the RAM.

    Attributes:
        name: What it holds.
        bytes: Size.
        share: Of the widest bar, 0 to 1.
        colour: Class of style.css.
        source: Who says so.
    """

    name: str
    bytes: int
    share: float
    colour: str
    source: str


@dataclass(frozen=True)
class Budget:
    """The section's bars.

    Attributes:
        parts: None of them holds another.
        total: Of the firmware, or of the parts where it was not built here.
        board: The board's RAM; 0: unknown or without a limit.
    """

    parts: tuple[Part, ...]
    total: int
    board: int


def budget(history: History) -> Budget:
    """Adds up what is known."""
    memory, summary, started = history.manifest["memory"], history.summary or {}, history.started
    found = [
        (name, int(memory.get(key) or 0), colour, "planned by the compiler")
        for name, key, colour in _MODEL
    ]
    if started.session_bytes:
        said = "reported by the board"
        found.append(("runtime's session", started.session_bytes, "c2", said))
    if started.stack_bytes:
        found.append(("stack", started.stack_bytes, "c2", "reserved by the board"))
    known = sum(item[1] for item in found)
    firmware = summary.get("firmware_ram_bytes")
    if firmware is not None and firmware > known:
        found.append(("rest of the firmware", firmware - known, "c5", "as linked"))
    total = max(known, firmware or 0)
    about = (history.environment or {}).get("board") or {}
    board = int(about.get("ram_bytes") or 0) if about.get("run") != "host" else 0
    widest = max(total, board)
    parts = [Part(name, n, n / widest, colour, source) for name, n, colour, source in found if n]
    return Budget(tuple(parts), total, board)
