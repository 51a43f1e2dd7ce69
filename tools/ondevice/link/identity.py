"""Which board and firmware answer: the reply to IDENTIFY."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from ondevice.errors import LinkError


class StartReason(IntEnum):
    """Why the board started."""

    UNKNOWN = 0
    POWER = 1
    PIN = 2
    SOFTWARE = 3
    WATCHDOG = 4
    BROWN_OUT = 5
    FAULT = 6


START_TEXT = {
    StartReason.UNKNOWN: "unknown",
    StartReason.POWER: "power on",
    StartReason.PIN: "reset button or debugger",
    StartReason.SOFTWARE: "its own request",
    StartReason.WATCHDOG: "watchdog: it did not end something in time",
    StartReason.BROWN_OUT: "brown-out: the supply was too low",
    StartReason.FAULT: "a fault of its firmware",
}


@dataclass(frozen=True)
class Identity:
    """What IDENTIFY tells.

    Attributes:
        start_reason: Why the board started.
        unique_id: Of the chip, in hexadecimal; empty where it has none.
        image_digest: Of the firmware, 64 hexadecimal digits; empty where it has none.
    """

    start_reason: StartReason
    unique_id: str
    image_digest: str


_IDENTITY = struct.Struct("<BBH16s32s")


def decode_identity(payload: bytes) -> Identity:
    """Decode the reply to IDENTIFY.

    Raises:
        LinkError: It has another length, or an id longer than its place.
    """
    if len(payload) != _IDENTITY.size or payload[1] > 16:
        raise LinkError(
            f"the board's identity has an unexpected form ({len(payload)} bytes); "
            "flash firmware of this version"
        )
    reason, id_bytes, _, unique_id, digest = _IDENTITY.unpack(payload)
    return Identity(
        start_reason=StartReason(reason) if reason in list(StartReason) else StartReason.UNKNOWN,
        unique_id=unique_id[:id_bytes].hex(),
        image_digest=digest.hex() if any(digest) else "",
    )
