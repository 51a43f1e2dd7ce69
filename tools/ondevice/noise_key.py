"""The key from which a board with DP-SGD makes its noise.

A key and a count of updates give the same noise again. So the board forgets the key with whatever
sets the count back, refuses to train without one, and whoever goes on writes a fresh one.
"""

import secrets
from collections.abc import Mapping
from typing import Any, Protocol

KEY_BYTES = 32


class Keyed(Protocol):
    """The part of a device that takes the key."""

    def write_noise_key(self, index: int, key: bytes) -> None:
        """Writes it."""


def renew_noise_key(device: Keyed, manifest: Mapping[str, Any]) -> None:
    """Gives the board a fresh random key, where its model has noise; kept nowhere else.

    Raises:
        LinkError: The link failed.
    """
    for index, entry in enumerate(manifest["parameters"]):
        if entry.get("format") == "noise key":
            device.write_noise_key(index, secrets.token_bytes(KEY_BYTES))
