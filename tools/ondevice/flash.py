"""Puts a firmware on a real board: by OpenOCD, st-flash, PlatformIO's copies, or the disk."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ondevice.boards import Board
from ondevice.disks import Disk, mounted_disk
from ondevice.errors import UserError
from ondevice.ports import Port, check_port_is, find_port, list_ports, port_at
from ondevice.programmers import WRONG_CHIP, Programmer, explain, find_programmers
from ondevice.stlink_disk import DiskError, program_by_disk

TOOLS = ("auto", "openocd", "st-flash", "platformio", "disk")


class FlashError(UserError):
    """The board could not be flashed."""


def flash_file(elf: Path, board: Board, port: str | None = None, tool: str = "auto") -> str:
    """Flashes `elf` (OpenOCD) or the .bin beside it (st-flash, disk), and starts it.

    Args:
        elf: Built for the board.
        board: A real one.
        port: Serial port of the board; the ST-LINK with this port is the one that flashes. None:
            the only one.
        tool: One of `TOOLS`; auto: the first that is there.

    Returns:
        The tool that did it.

    Raises:
        FlashError: No tool is there, or it failed, or the chip is another one.
        PortError: The board at the port is another one; or none was named, and several may be
            meant.
    """
    if board.run != "serial":
        raise FlashError(f"board {board.name!r} is simulated: nothing to flash")
    probe = _probe(board, port)
    programmers = [p for p in find_programmers(board) if tool in ("auto", p.tool)]
    if programmers:
        serial_number = probe.serial_number if probe is not None and probe.probe else ""
        _check_chip(programmers[0], board, serial_number)
        _run(programmers[0], elf, board, serial_number, port)
        return programmers[0].tool
    disk = _disk(board, probe) if tool in ("auto", "disk") else None
    if disk is None or disk.folder is None:
        raise FlashError(_nothing_there(board, tool, disk))
    try:
        program_by_disk(elf.with_suffix(".bin"), disk.folder)
    except DiskError as error:
        raise FlashError(f"{board.name} could not be flashed by its disk: {error}") from None
    return "disk"


def _probe(board: Board, port: str | None) -> Port | None:
    """The ST-LINK that is meant; None where no serial port tells of one."""
    if port is None:
        return find_port(board) if any(p.probe for p in list_ports()) else None
    probe = port_at(port)
    if probe is not None:
        check_port_is(probe, board)
    return probe


def _run(
    programmer: Programmer, elf: Path, board: Board, serial_number: str, port: str | None
) -> None:
    command = programmer.command(elf, board, serial_number)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise FlashError(f"{command[0]} cannot be started: {error.strerror}") from error
    if done.returncode == 0:
        return
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    for line in lines:
        if WRONG_CHIP in line:
            raise _wrong_chip(board, line.split()[-1])
    complaints = [line for line in lines if "error" in line.lower()] or lines
    said = complaints[-1] if complaints else f"exit code {done.returncode}"
    where = f" (board at {port})" if port else ""
    advice = explain(lines)
    raise FlashError(
        f"{programmer.program.name} could not flash the board{where}: {said}"
        + (f"; {advice}" if advice else "")
    )


def _check_chip(programmer: Programmer, board: Board, serial_number: str) -> None:
    """st-flash writes into whatever chip there is; st-info beside it knows which. OpenOCD asks."""
    program = shutil.which("st-info", path=str(programmer.program.parent))
    if programmer.is_openocd or program is None or not board.chip_id:
        return
    said = subprocess.run([program, "--probe"], capture_output=True, text=True, check=False).stdout
    chips = _probed_chips(said)
    chip = chips.get(serial_number.lower()) if serial_number else next(iter(chips.values()), None)
    if chip is not None and chip not in (0, board.chip_id):
        raise _wrong_chip(board, f"{chip:#05x}")


def _probed_chips(text: str) -> dict[str, int]:
    """Chip ids by serial number, of `st-info --probe`."""
    chips: dict[str, int] = {}
    serial_number = ""
    for line in text.splitlines():
        key, _, value = (part.strip().lower() for part in line.partition(":"))
        if key == "serial":
            serial_number = value
        elif key == "chipid" and value.startswith("0x"):
            chips[serial_number] = int(value, 16) & 0xFFF
    return chips


def _wrong_chip(board: Board, found: str) -> FlashError:
    return FlashError(
        f"the board holds another chip: its id is {found}, that of {board.name} is "
        f"{board.chip_id:#05x}; nothing was written; choose the right --board, or --port"
    )


def _disk(board: Board, probe: Port | None) -> Disk | None:
    """That of the probe, where it is known which one that is; else any with the board's label."""
    if probe is not None and probe.disk is not None:
        return probe.disk
    return mounted_disk(board.mount_labels)


def _nothing_there(board: Board, tool: str, disk: Disk | None) -> str:
    label = " or ".join(board.mount_labels)
    mounted = (
        f"its disk {disk.label} is not mounted (`udisksctl mount -b /dev/disk/by-label/"
        f"{disk.label}`)"
        if disk is not None
        else f"no disk {label} is mounted"
    )
    get = {
        "openocd": "OpenOCD is not installed: `sudo apt-get install openocd`",
        "st-flash": "st-flash is not installed: `sudo apt-get install stlink-tools`",
        "platformio": "PlatformIO has no tool-openocd and no tool-stm32duino: "
        "`pio pkg install -g -t platformio/tool-openocd`",
        "disk": f"{mounted}; plug the board in, or mount it",
        "auto": f"no OpenOCD, no st-flash, none of PlatformIO's, and {mounted}; "
        "`sudo apt-get install openocd`, or plug the board in so that its disk is mounted",
    }[tool]
    return f"cannot flash {board.name}: {get}"
