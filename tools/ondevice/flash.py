"""Puts a firmware on a real board: OpenOCD, st-flash, or the ST-LINK's disk, whichever is there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ondevice.boards import Board
from ondevice.errors import UserError

_MEDIA = (Path("/media"), Path("/run/media"), Path("/Volumes"))


class FlashError(UserError):
    """The board could not be flashed."""


def flash_file(elf: Path, board: Board, port: str | None = None) -> None:
    """Flashes `elf` (OpenOCD) or the .bin beside it (st-flash, disk).

    Args:
        elf: Built for the board.
        board: A real one.
        port: Serial port; not needed to flash, named in messages.

    Raises:
        FlashError: No tool is installed and no disk is mounted, or the tool failed.
    """
    if board.run != "serial":
        raise FlashError(f"board {board.name!r} is simulated: nothing to flash")
    binary = elf.with_suffix(".bin")
    disk = _disk(board)
    if shutil.which("openocd") and board.openocd_target:
        _run(
            [
                "openocd",
                *("-f", "interface/stlink.cfg"),
                *("-f", f"target/{board.openocd_target}.cfg"),
                *("-c", f"program {{{elf}}} verify reset exit"),
            ],
            port,
        )
    elif shutil.which("st-flash"):
        _run(["st-flash", "--reset", "write", str(binary), hex(board.flash_origin)], port)
    elif disk is not None:
        shutil.copyfile(binary, disk / binary.name)
    else:
        raise FlashError(
            f"cannot flash {board.name}: no OpenOCD, no st-flash and no disk {board.mount_label}; "
            "`apt-get install openocd`, or plug in the board so that its disk is mounted"
        )


def _run(command: list[str], port: str | None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = lines[-1].strip() if lines else f"exit code {done.returncode}"
        where = f" (board at {port})" if port else ""
        raise FlashError(f"{command[0]} could not flash the board{where}: {said}")


def _disk(board: Board) -> Path | None:
    if not board.mount_label:
        return None
    for media in _MEDIA:
        for path in (*media.glob(board.mount_label), *media.glob(f"*/{board.mount_label}")):
            if path.is_dir():
                return path
    return None
