"""The key that a host and a device share: 32 random bytes in a file that only its owner reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from ondevice.errors import UserError
from ondevice.link.authentication import KEY_BYTES

if TYPE_CHECKING:
    from ondevice.boards import Board


class KeyFileError(UserError):
    """A key file is missing, readable for others, or no key."""


def new_key(path: Path) -> None:
    """Writes a new key.

    Raises:
        KeyFileError: The file is there already: a key that boards hold must not be lost.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path}: is there already; choose another name for a new key") from None
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))


def load_key(path: Path | None) -> bytes | None:
    """Reads a key; None for no file.

    Raises:
        KeyFileError: It cannot be read, others may read it, or it is no key.
    """
    if path is None:
        return None
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise KeyFileError(
            f"{path}: cannot read the key: {error.strerror}; `ondevice key new` makes one"
        ) from error
    if len(content) != KEY_BYTES or len(set(content)) == 1:
        raise KeyFileError(
            f"{path}: not a key: {len(content)} bytes, allowed: {KEY_BYTES} random ones; "
            "`ondevice key new` makes one"
        )
    if os.name == "posix" and mode & 0o077:
        raise KeyFileError(
            f"{path}: its permissions {mode & 0o777:04o} let others read the key; "
            f"allowed: 0600; `chmod 600 {path}`"
        )
    return content


def check_board_takes_key(board: Board) -> None:
    """Refuses a key for a board that could not keep its sessions apart.

    Raises:
        KeyFileError: It has neither flash to count its starts in nor entropy.
    """
    if board.run not in ("host", "qemu") and not board.storage_bank_bytes:
        raise KeyFileError(
            f"board {board.name!r} takes no key: it has neither flash that counts its starts nor "
            "entropy, so sessions could be replayed; choose a board with storage_bank_bytes"
        )
