"""What happens in a search, as frozen facts; display and JSON are made from these."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PhaseStarted:
    """A phase begins.

    Attributes:
        phase: "contribution", "evolution" or "comparison".
        total: Training runs of the phase; of an evolution: generations.
    """

    phase: str
    total: int


@dataclass(frozen=True)
class SchemeStarted:
    """The runs of a scheme begin."""

    scheme: str
    part: str


@dataclass(frozen=True)
class RunFinished:
    """One training run on the host board, or one that the log already had.

    Attributes:
        scheme: What was trained.
        data: Name of the data set.
        part: "validation" or "test".
        learning_rate, seed: Of the run.
        accuracy: After it, 0 to 1.
        known: It was in the log.
    """

    scheme: str
    data: str
    part: str
    learning_rate: float
    seed: int
    accuracy: float
    known: bool


@dataclass(frozen=True)
class SchemeMeasured:
    """All runs of a scheme are there.

    Attributes:
        scheme: Its name.
        part: "validation" or "test".
        accuracy: Mean over data sets and seeds, 0 to 1.
        learning_rate: With which.
    """

    scheme: str
    part: str
    accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class GenerationFinished:
    """One generation of the evolution.

    Attributes:
        generation: From 1.
        scheme: The best so far.
        gain: Its summed contribution.
        ram_bytes, macs: Its cost.
    """

    generation: int
    scheme: str
    gain: float
    ram_bytes: int
    macs: int


SearchEvent = PhaseStarted | SchemeStarted | RunFinished | SchemeMeasured | GenerationFinished

_NAMES = {
    PhaseStarted: "phase",
    SchemeStarted: "start",
    RunFinished: "run",
    SchemeMeasured: "scheme",
    GenerationFinished: "generation",
}


def search_record(event: SearchEvent) -> dict[str, Any]:
    """Returns an event as a JSON-ready dictionary."""
    return {"event": _NAMES[type(event)], **asdict(event)}
