"""What a board on the desk needs: a way to flash, permissions, and the board itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from ondevice.boards import Board
from ondevice.doctor.check import NOBODY, Check
from ondevice.doctor.programs import version_of
from ondevice.ports import PROBES, Port, PortError, find_port
from ondevice.programmers import Programmer, find_programmers

FLASHING, ACCESS, BOARDS = "Flashing", "Access", "Boards"
_SERIAL = frozenset({"serial"})
_RULES = ("etc/udev/rules.d", "lib/udev/rules.d", "usr/lib/udev/rules.d", "run/udev/rules.d")
_GROUPS = ("dialout", "uucp")


def check_flashing(board: Board, ports: Iterable[Port]) -> list[Check]:
    """The programs that flash, the disk, and whether there is any of them."""
    programmers = find_programmers(board)
    checks = [
        _programmer("openocd", programmers, "`sudo apt-get install openocd`"),
        _programmer("st-flash", programmers, "`sudo apt-get install stlink-tools`"),
        _programmer("platformio", programmers, "`pio pkg install -g -t platformio/tool-openocd`"),
        _disk(board, ports),
    ]
    ways = [check.name for check in checks if check.ok]
    text = ", ".join(ways) or "none of these is there; get one"
    return [*checks, Check(FLASHING, "any of them", bool(ways), text, _SERIAL)]


def check_access(ports: list[Port], root: Path = Path("/")) -> list[Check]:
    """Whether the person may open serial ports and ST-LINKs.

    Args:
        ports: Of this computer.
        root: Of the file system.
    """
    return [_serial_ports(ports), _st_link(root)]


def check_boards(board: Board, ports: list[Port]) -> list[Check]:
    """Every port with a board, and the one that --board means."""
    checks = [
        Check(BOARDS, port.device, True, str(port).removeprefix(port.device).strip())
        for port in ports
        if port.usb_id
    ]
    if board.run == "serial":
        try:
            text, ok = find_port(board).place, True
        except PortError as error:
            text, ok = str(error), False
        checks.append(Check(BOARDS, board.name, ok, text, _SERIAL))
    elif not checks:
        checks.append(Check(BOARDS, "real boards", True, "none is plugged in"))
    return checks


def _programmer(tool: str, programmers: list[Programmer], get: str) -> Check:
    found = next((p for p in programmers if p.tool == tool), None)
    if found is None:
        return Check(FLASHING, tool, False, f"not installed: {get}", NOBODY)
    program = str(found.program)
    return Check(FLASHING, tool, True, f"{version_of(program)} ({program})".strip())


def _disk(board: Board, ports: Iterable[Port]) -> Check:
    disks = [port.disk for port in ports if port.disk is not None and board.name in port.boards]
    mounted = [disk for disk in disks if disk.folder is not None]
    label = " or ".join(board.mount_labels) or "of an ST-LINK"
    if mounted:
        return Check(FLASHING, "disk", True, f"{mounted[0].label} at {mounted[0].folder}")
    if disks:
        how = f"{disks[0].label} is there, not mounted: "
        how += f"`udisksctl mount -b /dev/disk/by-label/{disks[0].label}`"
        return Check(FLASHING, "disk", False, how)
    return Check(FLASHING, "disk", False, f"no disk {label}: plug the board in")


def _serial_ports(ports: list[Port]) -> Check:
    name = "serial ports"
    if sys.platform == "win32":
        return Check(ACCESS, name, True, "open to all on Windows", _SERIAL)
    import grp

    devices = [port.device for port in ports if port.usb_id]
    closed = [d for d in devices if os.path.exists(d) and not os.access(d, os.R_OK | os.W_OK)]
    if closed:
        group = _group_of(closed[0])
        how = f"no permission to open {', '.join(closed)}: `sudo usermod -aG {group} $USER`"
        return Check(ACCESS, name, False, f"{how}, then log in again", _SERIAL)
    if devices:
        return Check(ACCESS, name, True, f"may open {', '.join(devices)}", _SERIAL)
    if os.geteuid() == 0:
        return Check(ACCESS, name, True, "root may open all", _SERIAL)
    there = {entry.gr_name: entry.gr_gid for entry in grp.getgrall() if entry.gr_name in _GROUPS}
    mine = {*os.getgroups(), os.getegid()}
    if not there or mine & set(there.values()):
        return Check(ACCESS, name, True, "no port to try; you are in their group", _SERIAL)
    group = next(iter(there))
    how = f"you are not in the group {group}: `sudo usermod -aG {group} $USER`, then log in again"
    return Check(ACCESS, name, False, how, _SERIAL)


def _group_of(device: str) -> str:
    import grp

    try:
        return grp.getgrgid(os.stat(device).st_gid).gr_name
    except (OSError, KeyError):
        return _GROUPS[0]


def _st_link(root: Path) -> Check:
    """udev rules let a person open the ST-LINK; OpenOCD and st-flash do."""
    name = "ST-LINK (udev rule)"
    if sys.platform != "linux":
        return Check(ACCESS, name, True, "only Linux needs one")
    products = {usb_id.partition(":")[2] for usb_id in PROBES}
    for folder in _RULES:
        for rules in sorted((root / folder).glob("*.rules")):
            text = rules.read_text(encoding="utf-8", errors="replace").lower()
            if "0483" in text and any(product in text for product in products):
                return Check(ACCESS, name, True, f"/{rules.relative_to(root)}")
    how = "no rule: `sudo apt-get install openocd` or `stlink-tools` brings one; plug in again"
    return Check(ACCESS, name, False, how)
