"""What server and clients tell each other, as Flower's records.

An order goes down, a report comes up. Weights and changes are bytes in the device's own form: what
a server averages is decoded from them, and nothing else of a client's data is in any message.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from flwr.app import ConfigRecord, RecordDict

_KEY = "ondevice"
Content = TypeVar("Content", bound="Introduction | Order | Report")


@dataclass(frozen=True)
class Introduction:
    """A client's answer to who it is.

    Attributes:
        name: Unique in the federation, and the same after a restart.
        model_id: Of the compiled model on its board.
        samples: That it trains on.
        board: What kind.
    """

    name: str
    model_id: str
    samples: int
    board: str


@dataclass(frozen=True)
class Order:
    """Train a round, or evaluate.

    Attributes:
        federation: The run's id; a client that was in another one begins afresh.
        round: From 1.
        base_round: Whose broadcast `weights` is the change of (`delta`); 0: it is whole.
        weights: The global weights' bytes one after the other, or a delta to those of `base_round`.
        taken_round: The last round whose report of this client the server has averaged.
        learning_rate, local_epochs, seed: Of the local training.
        proximal_mu: FedProx's; 0: none.
    """

    federation: str
    round: int
    base_round: int
    weights: bytes
    taken_round: int
    learning_rate: float
    local_epochs: int
    seed: int
    proximal_mu: float


@dataclass(frozen=True)
class Report:
    """What a round gave.

    Attributes:
        round: Of the order.
        needs_whole: The client does not hold the order's `base_round`; nothing was trained.
        delta: The change of the trained weights (`decode_delta`).
        samples: That count for it; 0: of an evaluation that had none.
        loss: Mean over the steps, before each update; of an evaluation, over its samples.
        correct: Right answers among the samples.
        count: Instructions or cycles of all steps, and `compress_count` of compressing; 0: unknown.
        serial_bytes: That crossed the board's link, both ways.
        attempts: Times that the round was begun.
    """

    round: int
    needs_whole: bool = False
    delta: bytes = b""
    samples: int = 0
    loss: float = 0.0
    correct: int = 0
    count: int = 0
    compress_count: int = 0
    serial_bytes: int = 0
    attempts: int = 1


def to_record(content: Introduction | Order | Report) -> RecordDict:
    """Content as what Flower carries."""
    return RecordDict({_KEY: ConfigRecord(asdict(content))})


def from_record(kind: type[Content], record: RecordDict) -> Content:
    """Content of a message.

    Raises:
        ValueError: It is of another kind, or of another version of ondevice.
    """
    found: dict[str, Any] = dict(record.config_records.get(_KEY) or {})
    wanted = {field.name: field.type for field in fields(kind)}
    if set(found) != set(wanted):
        raise ValueError(
            f"a message with {sorted(found) or 'nothing'} instead of {sorted(wanted)}: server and "
            "clients must run the same version of ondevice"
        )
    for key, value in found.items():
        if type(value) is not wanted[key]:
            raise ValueError(f"a message whose {key} is {value!r:.40}")
    return kind(**found)
