"""Boards in Renode: the script that starts one, and its UART as a TCP socket.

Renode is not part of CI: what is here was tested with a stand-in, and has not been run in Renode.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ondevice.boards import Board
from ondevice.errors import UserError
from ondevice.link.socket_transport import SocketTransport, free_port
from ondevice.places import data_folder

GET_RENODE = "get it from renode.io (a portable package needs no installation) and put it on PATH"


class RenodeError(UserError):
    """Renode is not installed, or the board has no script for it."""


def renode_command(elf: Path, board: Board, uart_port: int) -> list[str]:
    """Renode without windows and without a monitor, running a firmware.

    Args:
        elf: Built for the board.
        board: With files of its name in firmware/renode.
        uart_port: TCP port that becomes the board's UART.

    Raises:
        RenodeError: Renode is not installed, or there are no such files.
    """
    script, platform = (
        data_folder("firmware") / "renode" / f"{board.name}.{kind}" for kind in ("resc", "repl")
    )
    for file in (script, platform):
        if not file.is_file():
            raise RenodeError(f"{file}: no such file; board {board.name!r} cannot run in Renode")
    program = shutil.which("renode")
    if program is None:
        raise RenodeError(
            f"board {board.name!r} runs in Renode, which is not installed: {GET_RENODE}; "
            f"without it, take another simulated board (see `ondevice boards`)"
        )
    return [
        program,
        *("--disable-xwt", "--plain", "--port=-1"),
        *("-e", f"$elf={_path(elf)}"),
        *("-e", f"$platform={_path(platform)}"),
        *("-e", f"$uart_port={uart_port}"),
        *("-e", f"include {_path(script)}"),
        *("-e", "start"),
    ]


def start_renode(elf: Path, board: Board) -> SocketTransport:
    """Starts a board; closing the transport ends it.

    Raises:
        RenodeError: See `renode_command`.
        LinkError: Renode ended, or opened no UART.
    """
    port = free_port()
    return SocketTransport(renode_command(elf, board, port), port, name=board.name)


def _path(path: Path) -> str:
    """As Renode's monitor reads a path."""
    text = str(path.resolve())
    if ";" in text:
        raise RenodeError(f"{text}: Renode cannot read a path with a semicolon; move it")
    return "@" + text.replace(" ", "\\ ")
