"""Checkpoints in the board's own flash, as it describes them (docs/PROTOCOL.md, "Checkpoints")."""

import math
import struct
from dataclasses import dataclass
from typing import Literal

from ondevice.errors import LinkError

Which = int | Literal["newest", "best"]

_NUMBERS = {"newest": 0, "best": 0xFFFFFFFF}
_INFO = struct.Struct("<IQIIfIBBxxIII")
_NEWEST, _BEST = 1, 2
_FLOAT32_MAX = 3.4028234e38


@dataclass(frozen=True)
class FlashCheckpoint:
    """One checkpoint.

    Attributes:
        sequence: Its number, from 1; later ones have higher ones.
        run: The run that was saved; 0: none.
        trained: Training steps of that run.
        update_steps: Updates of the parameters, over all runs.
        loss: That it was saved with; None where that was unknown.
        bytes: Of flash that it takes.
        bank: 0 or 1.
        newest: What the board starts with after a power loss.
        best: Of the lowest loss.
        erase_counts: How often each of the two banks has been erased.
        bank_bytes: Of each bank.
    """

    sequence: int
    run: int
    trained: int
    update_steps: int
    loss: float | None
    bytes: int
    bank: int
    newest: bool
    best: bool
    erase_counts: tuple[int, int]
    bank_bytes: int


def encode_loss(loss: float | None) -> bytes:
    """Payload of CHECKPOINT_SAVE: a loss that is unknown or not finite as NaN."""
    known = loss is not None and math.isfinite(loss) and abs(loss) <= _FLOAT32_MAX
    return struct.pack("<f", loss if known else math.nan)


def encode_which(which: Which) -> bytes:
    """Payload of CHECKPOINT_LOAD.

    Raises:
        ValueError: A number that no checkpoint has.
    """
    if isinstance(which, str):
        return struct.pack("<I", _NUMBERS[which])
    if not 0 < which < _NUMBERS["best"]:
        raise ValueError(f"checkpoint {which}; numbers are 1 to {_NUMBERS['best'] - 1}")
    return struct.pack("<I", which)


def decode_checkpoint(payload: bytes) -> FlashCheckpoint:
    """Decode the reply to CHECKPOINT_LOAD and CHECKPOINT_LIST."""
    if len(payload) != _INFO.size:
        raise LinkError(
            f"the board's checkpoint has an unexpected length of {len(payload)} bytes; "
            "flash firmware of this version"
        )
    sequence, run, trained, updates, loss, size, bank, flags, erases_a, erases_b, bank_bytes = (
        _INFO.unpack(payload)
    )
    return FlashCheckpoint(
        sequence=sequence,
        run=run,
        trained=trained,
        update_steps=updates,
        loss=loss if math.isfinite(loss) else None,
        bytes=size,
        bank=bank,
        newest=bool(flags & _NEWEST),
        best=bool(flags & _BEST),
        erase_counts=(erases_a, erases_b),
        bank_bytes=bank_bytes,
    )
