"""What a server must know to go on with the next round, in a file."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError
from ondevice.federate.weights import Weights
from ondevice.npz import NpzError, read_npz
from ondevice_compiler.atomic_file import write_bytes_atomically

FORMAT = 1
LARGEST_BYTES = 1 << 30


@dataclass(frozen=True)
class ServerState:
    """After a round.

    Attributes:
        federation: Of this run; clients keep what they remember by it.
        model_id: Of the model that all boards run.
        round: The last one that was averaged; 0: none yet.
        weights: Global, real.
        broadcast: Bytes of the weights that the last round began with, in the device's form.
        held: Client -> round of the broadcast that it holds.
        taken: Client -> last round whose report was averaged.
        strategy: See `strategy_state`.
    """

    federation: str
    model_id: str
    round: int
    weights: Weights = field(repr=False)
    broadcast: tuple[bytes, ...] = field(default=(), repr=False)
    held: Mapping[str, int] = field(default_factory=dict)
    taken: Mapping[str, int] = field(default_factory=dict)
    strategy: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)


def save_state(path: Path, state: ServerState) -> None:
    """Writes it; the file is whole at any time."""
    facts = {
        "format": FORMAT,
        "federation": state.federation,
        "model_id": state.model_id,
        "round": state.round,
        "held": dict(state.held),
        "taken": dict(state.taken),
    }
    content: dict[str, Any] = {"facts": np.str_(json.dumps(facts, sort_keys=True))}
    content |= {f"weight_{i:04d}": array for i, array in enumerate(state.weights)}
    content |= {
        f"broadcast_{i:04d}": np.frombuffer(part, np.uint8)
        for i, part in enumerate(state.broadcast)
    }
    content |= {f"strategy/{key}": value for key, value in state.strategy.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    write_bytes_atomically(path, buffer.getvalue())


def load_state(path: Path) -> ServerState:
    """Reads it.

    Raises:
        UserError: There is none, or it is damaged.
    """
    try:
        file = read_npz(path, LARGEST_BYTES)
        facts = json.loads(str(file["facts"]))
        if facts["format"] != FORMAT:
            raise UserError(f"{path}: of format {facts['format']}; this version reads {FORMAT}")
        state = ServerState(
            federation=str(facts["federation"]),
            model_id=str(facts["model_id"]),
            round=int(facts["round"]),
            weights=tuple(file[key] for key in sorted(file) if key.startswith("weight_")),
            held={str(k): int(v) for k, v in facts["held"].items()},
            taken={str(k): int(v) for k, v in facts["taken"].items()},
        )
        return replace(
            state,
            broadcast=tuple(
                file[key].tobytes() for key in sorted(file) if key.startswith("broadcast_")
            ),
            strategy={
                key.removeprefix("strategy/"): file[key]
                for key in file
                if key.startswith("strategy/")
            },
        )
    except (OSError, NpzError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no state of a federation that can be read: {error}") from error
