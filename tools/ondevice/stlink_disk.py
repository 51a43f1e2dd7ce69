"""Flashing by copying to the ST-LINK's disk, which says in FAIL.TXT what went wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ondevice.errors import UserError

# The ST-LINK programs while it is written to, then takes its disk away and shows it anew.
SETTLE_S = 4.0
RETURN_S = 15.0
_FAIL = "FAIL.TXT"


class DiskError(UserError):
    """The ST-LINK refused the image, or its disk cannot be written."""


def program_by_disk(
    image: Path, folder: Path, settle_s: float | None = None, return_s: float = RETURN_S
) -> None:
    """Copies a raw image to the disk and waits for the ST-LINK's answer.

    Args:
        image: Raw image.
        folder: Where the disk is mounted.
        settle_s: How long a FAIL.TXT may take to appear; None: as the ST-LINK may.
        return_s: How much longer the disk may be away.

    Raises:
        DiskError: With what FAIL.TXT says.
    """
    failed = folder / _FAIL
    settle_s = SETTLE_S if settle_s is None else settle_s
    try:
        failed.unlink(missing_ok=True)  # of an earlier image; the ST-LINK shows only a new one
        with (folder / image.name).open("wb") as file:
            file.write(image.read_bytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        # A refused image: the disk goes away while it is written to.
        _look(failed, settle_s, return_s)
        raise DiskError(f"{folder} cannot be written: {error.strerror}") from error
    _look(failed, settle_s, return_s)


def _look(failed: Path, settle_s: float, return_s: float) -> None:
    settled = time.monotonic() + settle_s
    returned = settled + return_s
    while True:
        text = _read(failed)
        if text is not None:
            raise DiskError(f"FAIL.TXT says: {' '.join(text.split()) or 'nothing'}")
        now = time.monotonic()
        if now >= settled and (failed.parent.is_dir() or now >= returned):
            return
        time.sleep(0.05)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
