"""What a run was made with: versions of everything that has a say in its result."""

from __future__ import annotations

import json
import platform
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice.doctor.programs import version_of
from ondevice_compiler.atomic_file import write_text_atomically

if TYPE_CHECKING:
    from ondevice.boards import Board

ENVIRONMENT_FILE = "environment.json"
PACKAGES = ("ondevice-training", "apache-tvm", "numpy", "onnx", "torch", "platformio")

_OF_BOARD = ("name", "title", "run", "cpu", "clock_hz", "ram_bytes", "flash_bytes", "stack_bytes")


def describe_environment(board: Board | None, now: datetime) -> dict[str, Any]:
    """Gathers versions; nothing that names the person or the computer.

    Args:
        board: Whose compiler and simulator count; None: a board that was not named.
        now: When the run begins.
    """
    wanted = _programs(board) if board is not None else []
    return {
        "begun": now.astimezone().isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: found for name in PACKAGES if (found := _package(name)) is not None},
        "programs": {name: found for name in wanted if (found := version_of(name))},
        "board": {key: getattr(board, key) for key in _OF_BOARD} if board is not None else None,
    }


def write_environment(folder: Path, board: Board | None, now: datetime) -> None:
    """Writes environment.json into a run folder."""
    text = json.dumps(describe_environment(board, now), indent=1) + "\n"
    write_text_atomically(folder / ENVIRONMENT_FILE, text)


def _programs(board: Board) -> list[str]:
    compiler = "gcc" if board.run == "host" else "arm-none-eabi-gcc"
    simulator = {"qemu": "qemu-system-arm", "renode": "renode"}.get(board.run)
    return [compiler] if simulator is None else [compiler, simulator]


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
