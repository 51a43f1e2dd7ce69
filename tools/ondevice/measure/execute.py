"""Runs a built measurement: in QEMU, or on a real board behind its serial port."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ondevice.boards import Board
from ondevice.build import simulation_command
from ondevice.errors import UserError
from ondevice.flash import flash_file

TIMEOUT_S = 300
_FOUND = re.compile(r"measured (\d+) (\d+)")


class MeasureError(UserError):
    """A kernel that does not compile, link or run."""


def run_measured(elf: Path, board: Board, port: str | None) -> tuple[int, int]:
    """(count, checksum) of what firmware/measure/measure.c says.

    Args:
        elf: Built for the board.
        board: Simulated, or real.
        port: Of a real board.

    Raises:
        MeasureError: It does not end, or faults.
    """
    said = _serial(elf, board, port) if board.run == "serial" else _qemu(elf, board)
    found = _FOUND.search(said)
    if found is None:
        raise MeasureError(f"{elf.name}: no count: {said.strip()[:300] or 'it said nothing'}")
    return int(found[1]), int(found[2])


def _qemu(elf: Path, board: Board) -> str:
    command = simulation_command(str(elf), board)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise MeasureError(f"{elf.name}: no end in {TIMEOUT_S} s") from None
    return done.stdout + done.stderr


def _serial(elf: Path, board: Board, port: str | None) -> str:
    """Flashes the board and asks twice: the first answer warms its caches. Not run on silicon."""
    import serial

    if port is None:
        raise MeasureError(f"board {board.name!r} is a real one: say where it is with --port")
    command = ["arm-none-eabi-objcopy", "-O", "binary", str(elf), str(elf.with_suffix(".bin"))]
    subprocess.run(command, check=True)
    flash_file(elf, board, port)
    with serial.Serial(port, board.uart_baud, timeout=TIMEOUT_S) as line:
        said = ""
        for _ in range(2):
            line.write(b"\n")
            said = line.readline().decode("ascii", "replace")
    return said
