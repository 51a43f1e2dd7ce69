"""The file in which a simulated board keeps checkpoints: two banks of flash, erased at first."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice.boards import IN_FILE, Board
from ondevice.errors import UserError
from ondevice_compiler.atomic_file import write_bytes_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence

_BANKS = 2
_NAME_BYTES_MAX = 480  # firmware/src/cortex_m/semihosted_file.c holds as many


def default_flash_file(board: Board, manifest: dict[str, Any], build_root: Path) -> Path:
    """Where a simulated board keeps the checkpoints of a model, if nothing else is said."""
    return build_root / "flash" / f"{board.name}-{str(manifest['model_id'])[:24]}.bin"


def keeps_checkpoints_in_file(board: Board) -> bool:
    """Whether the board is simulated with flash for checkpoints."""
    return board.run in IN_FILE and board.storage_bank_bytes > 0


def prepare_flash_file(path: Path, board: Board) -> Path:
    """Makes an erased one where there is none.

    Returns:
        Its absolute path.

    Raises:
        UserError: The file is of another board, or its name is too long.
    """
    path = path.resolve()
    size = _BANKS * board.storage_bank_bytes
    if len(str(path).encode()) > _NAME_BYTES_MAX:
        raise UserError(
            f"{path}: the name of a flash file is at most {_NAME_BYTES_MAX} bytes; choose another "
            "place with --flash-file"
        )
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(path, b"\xff" * size)
    found = path.stat().st_size
    if not path.is_file() or found != size:
        raise UserError(
            f"{path}: {found} bytes; the flash of {board.name} that keeps checkpoints has {size}; "
            "choose another file with --flash-file"
        )
    return path


@contextmanager
def locked(path: Path) -> Iterator[Sequence[int]]:
    """Locks a flash file for the process that inherits the descriptors, as long as it runs.

    Raises:
        UserError: A simulated board uses it.
    """
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{path}: another simulated board uses this flash; end that one or give this one "
                "its own with --flash-file"
            ) from None
        yield (file.fileno(),)
