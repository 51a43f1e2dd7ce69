"""A client of a federation: a board, its data, and what it remembers of the rounds."""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ondevice.connection import Connection
from ondevice.federate.messages import Report
from ondevice_compiler.atomic_file import write_text_atomically

Packed = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Participant:
    """What a round needs.

    Attributes:
        name: Unique in the federation.
        connection: To its board, and the way to it again.
        manifest: Of the model on it.
        samples: Packed (`pack_samples`), that it learns from.
        held_out: Packed, that it is evaluated on; may be empty.
        memory_file: Where it remembers rounds; see `Memory`.
    """

    name: str
    connection: Connection
    manifest: dict[str, Any]
    samples: Packed
    held_out: Packed
    memory_file: Path


@dataclass(frozen=True)
class Memory:
    """What a client must know in the next round, also after a restart.

    Attributes:
        federation: The run that it is of; "": none.
        held_round: Round of the global weights that it holds; 0: none.
        held_weights: Their bytes, one weight after the other.
        report: Its last; the board holds the change as sent. None: it has sent nothing.
        checkpoint: Number of the board's checkpoint of that moment; 0: its board keeps none.
    """

    federation: str = ""
    held_round: int = 0
    held_weights: bytes = field(default=b"", repr=False)
    report: Report | None = None
    checkpoint: int = 0


def load_memory(path: Path, federation: str) -> Memory:
    """What was remembered of this run; nothing, where the file is of another one or unreadable."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        report = found["report"]
        if report is not None:
            report = Report(**{**report, "delta": base64.b64decode(report["delta"])})
        held = base64.b64decode(found["held_weights"])
        memory = Memory(
            str(found["federation"]),
            int(found["held_round"]),
            held,
            report,
            int(found["checkpoint"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Memory(federation)
    return memory if memory.federation == federation else Memory(federation)


def save_memory(path: Path, memory: Memory) -> None:
    """Remembers; the file is whole at any time."""
    content = asdict(memory)
    content["held_weights"] = base64.b64encode(memory.held_weights).decode()
    if content["report"] is not None:
        content["report"]["delta"] = base64.b64encode(content["report"]["delta"]).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(content))
