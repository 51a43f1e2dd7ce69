"""Serial ports of this computer, which board is behind each, and the one that a run needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from serial.tools import list_ports as pyserial_ports

from ondevice.boards import Board, list_boards, load_board
from ondevice.disks import Disk, disk_of_usb_device
from ondevice.errors import UserError

# UM2448 and ST's udev rules; a generation has several ids, by what interfaces it shows.
PROBES = {
    "0483:374b": "ST-LINK/V2-1",
    "0483:3752": "ST-LINK/V2-1",
    "0483:374e": "STLINK-V3",
    "0483:374f": "STLINK-V3",
    "0483:3753": "STLINK-V3",
    "0483:3754": "STLINK-V3",
    "0483:3757": "STLINK-V3",
}


class PortError(UserError):
    """No board, several, or another one than was asked for."""


@dataclass(frozen=True)
class Port:
    """A serial port.

    Attributes:
        device: Path, as --port takes it.
        description: Of the operating system.
        usb_id: VID:PID, hexadecimal; empty: not on USB.
        serial_number: Of the USB device; empty: none.
        disk: Of the same USB device.
        boards: Names of the boards that it may be: of one, where the disk's label says which.
    """

    device: str
    description: str
    boards: tuple[str, ...] = ()
    usb_id: str = ""
    serial_number: str = ""
    disk: Disk | None = None

    @property
    def probe(self) -> str:
        """Generation of the ST-LINK; empty: it is none."""
        return PROBES.get(self.usb_id, "")

    @property
    def place(self) -> str:
        """Device and serial number, for messages."""
        serial_number = f" (serial number {self.serial_number})" if self.serial_number else ""
        return f"{self.device}{serial_number}"

    def __str__(self) -> str:
        """One line for people."""
        parts = [self.device, self.description]
        if self.boards:
            parts.append(f"board: {' or '.join(self.boards)}")
        elif self.probe and self.disk is not None:
            parts.append(f"board: {self.disk.label}, which has no boards/*.ini")
        if self.serial_number:
            parts.append(f"serial number {self.serial_number}")
        return "  ".join(parts)


def list_ports() -> list[Port]:
    """All serial ports, sorted by path."""
    real = [board for name in list_boards() if (board := load_board(name)).run == "serial"]
    found = []
    for entry in pyserial_ports.comports():
        usb_id = f"{entry.vid:04x}:{entry.pid:04x}" if entry.vid is not None else ""
        disk = disk_of_usb_device(getattr(entry, "usb_device_path", None))
        found.append(
            Port(
                device=entry.device,
                description=entry.description or "",
                boards=_boards_behind(usb_id, disk, real),
                usb_id=usb_id,
                serial_number=getattr(entry, "serial_number", None) or "",
                disk=disk,
            )
        )
    return sorted(found, key=lambda port: port.device)


def port_at(device: str) -> Port | None:
    """The port that --port names, as a path or a link to it (/dev/serial/by-id/...)."""
    path = os.path.realpath(device)
    return next((port for port in list_ports() if os.path.realpath(port.device) == path), None)


def find_port(board: Board) -> Port:
    """The only port that a board of this kind is behind.

    Raises:
        PortError: There is none, or several.
    """
    ports = list_ports()
    found = [port for port in ports if board.name in port.boards]
    if len(found) == 1:
        return found[0]
    if found:
        raise PortError(
            f"{len(found)} boards may be the {board.name}: "
            f"{', '.join(port.place for port in found)}; choose one with --port"
        )
    others = [port for port in ports if port.probe]
    if others:
        raise PortError(f"no {board.name} is plugged in, but {_named(others)}; choose with --board")
    raise PortError(
        f"board {board.name!r} is a real one and none is plugged in: connect the USB socket of its "
        "ST-LINK by a cable that carries data, say where it is with --port (see `ondevice ports`), "
        "or choose a simulated board (see `ondevice boards`)"
    )


def check_port_is(port: Port, board: Board) -> None:
    """Refuses a board that says that it is another one.

    Raises:
        PortError: By the label of its disk.
    """
    if port.disk is not None and port.boards and board.name not in port.boards:
        raise PortError(
            f"{_named([port])}, not {board.name}; choose with --board, or another --port"
        )


def _named(ports: Sequence[Port]) -> str:
    return ", ".join(f"{port.place} is {_kind(port)}" for port in ports)


def _kind(port: Port) -> str:
    if port.boards:
        return " or ".join(port.boards)
    return port.disk.label if port.disk is not None else f"an unknown board with {port.probe}"


def _boards_behind(usb_id: str, disk: Disk | None, boards: Sequence[Board]) -> tuple[str, ...]:
    if not usb_id:
        return ()
    if disk is not None and usb_id in PROBES:
        return tuple(board.name for board in boards if disk.label in board.mount_labels)
    probe = PROBES.get(usb_id, usb_id)
    same = (board for board in boards if board.usb_id)
    return tuple(b.name for b in same if PROBES.get(b.usb_id.lower(), b.usb_id.lower()) == probe)
