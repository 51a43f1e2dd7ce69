"""What happens in a federation, as frozen facts; display, files and JSON are made of these."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FederationStarted:
    """Rounds are about to begin, or to go on.

    Attributes:
        clients: That introduced themselves.
        round: The last one that is behind.
        dense_bytes: Of a dense update, which compression is measured by.
    """

    federation: str
    model: str
    strategy: str
    compress: str
    clients: int
    samples: int
    round: int
    rounds: int
    dense_bytes: int


@dataclass(frozen=True)
class ClientFailed:
    """A client gave no update that could be used in this round; its learning may come later.

    Attributes:
        client: Its name, or the node's number where it has never introduced itself.
        reason: One line.
    """

    round: int
    client: str
    reason: str


@dataclass(frozen=True)
class RoundEnded:
    """A round was averaged.

    Attributes:
        asked, answered: Clients.
        loss, train_accuracy: Means over the local steps, before each update.
        up_bytes, down_bytes: Payload of all clients: changes and weights.
        count: Instructions or cycles of all boards, 0 where nobody counts; `compress_count` of it
            went into compressing.
        attempts: Times that clients began the round, restarts of boards included.
        duration_s: Of this computer or fleet; says nothing of a board.
    """

    round: int
    asked: int
    answered: int
    loss: float
    train_accuracy: float
    up_bytes: int
    down_bytes: int
    serial_bytes: int
    count: int
    compress_count: int
    attempts: int
    learning_rate: float
    duration_s: float


@dataclass(frozen=True)
class GlobalEvaluated:
    """The global weights were measured on held-out samples, by the device's code.

    Attributes:
        round: After which; 0: before the first.
    """

    round: int
    samples: int
    correct: int
    accuracy: float
    loss: float


FederationEvent = FederationStarted | ClientFailed | RoundEnded | GlobalEvaluated
_NAMES = {
    FederationStarted: "started",
    ClientFailed: "client_failed",
    RoundEnded: "round",
    GlobalEvaluated: "evaluated",
}


def record_of(event: FederationEvent) -> dict[str, Any]:
    """The event as one JSON object."""
    return {"event": _NAMES[type(event)], **asdict(event)}
