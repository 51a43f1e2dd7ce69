"""Serial ports of this computer, and which board is behind them."""

from __future__ import annotations

from dataclasses import dataclass

from serial.tools import list_ports as pyserial_ports

from ondevice.boards import list_boards, load_board


@dataclass(frozen=True)
class Port:
    """A serial port.

    Attributes:
        device: Path, as --port takes it.
        description: Of the operating system.
        boards: Names of the boards whose probe has this USB id.
    """

    device: str
    description: str
    boards: tuple[str, ...]

    def __str__(self) -> str:
        """One line for people."""
        known = f"  board: {', '.join(self.boards)}" if self.boards else ""
        return f"{self.device}  {self.description}{known}"


def list_ports() -> list[Port]:
    """All serial ports, sorted by path."""
    by_usb_id: dict[str, list[str]] = {}
    for name in list_boards():
        usb_id = load_board(name).usb_id.lower()
        if usb_id:
            by_usb_id.setdefault(usb_id, []).append(name)
    found = []
    for entry in pyserial_ports.comports():
        usb_id = f"{entry.vid:04x}:{entry.pid:04x}" if entry.vid is not None else ""
        boards = tuple(by_usb_id.get(usb_id, ()))
        found.append(Port(entry.device, entry.description or "", boards))
    return sorted(found, key=lambda port: port.device)
