"""Boards as data: one file boards/NAME.ini each, read by PlatformIO and by this module."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TypeVar

from ondevice.board_values import parse_pin, parse_sectors, sector_starts
from ondevice.errors import UserError
from ondevice.places import data_folder

ALLOWED = {
    "run": ("host", "qemu", "renode", "serial"),
    "driver": (
        *("posix", "mps2", "nrf51"),
        *("stm32f4", "stm32f7", "stm32g0", "stm32h7", "stm32l4", "stm32u5"),
    ),
    "uart": ("stdio", "usart1", "usart2", "usart3", "cmsdk", "nrf51"),
    "counter": ("none", "tim2", "dualtimer", "systemcounter", "nrf51timer", "dwt"),
}
_Value = TypeVar("_Value")
IN_FILE = ("host", "qemu")  # how boards run whose flash for checkpoints is a file
UNIT_BYTES = (1, 2, 4, 8, 16, 32)
_SIMD = {"cortex-m0": "none", "cortex-m0plus": "none", "cortex-m3": "none", "cortex-m55": "mve"}


class BoardError(UserError):
    """A board is unknown or its file is wrong."""


@dataclass(frozen=True)
class Board:
    """One board.

    Attributes:
        name: Of the file and of PlatformIO's environment.
        title: For people.
        run: How it runs: "host" (process), "qemu", "renode", or "serial" (real, behind a port).
        like: The board whose firmware it runs, bit for bit, and whose keys it takes over; empty: it
            stands for itself.
        driver: Folder of firmware/src.
        cpu, fpu: As gcc's -mcpu and -mfpu; empty for the host.
        clock_hz: Of the CPU; 0: unknown.
        ram_origin, flash_origin: First address.
        ram_bytes, flash_bytes: Of the real chip; enforced by the linker.
        stack_bytes: Reserve that the linker checks.
        storage_origin: First address of the flash that keeps checkpoints: two banks, one after the
            other. The firmware ends before it. A simulated board keeps them in a file instead, and
            may leave it out.
        storage_bank_bytes: Of each bank: one or several whole sectors; 0: no checkpoints.
        storage_unit_bytes: What this flash programs at once.
        flash_sectors: What the flash erases at once, as counts and sizes: "4x16K,1x64K,3x128K".
        uart: Which UART the link uses.
        uart_baud: Its rate.
        uart_origin: First address of its registers; 0 where the driver knows it.
        uart_interrupt: Its number in the vector table; 0 where the driver polls.
        uart_tx, uart_rx: Its pins, as PA2; empty where nothing is to be set up.
        uart_alternate: Number of the pins' alternate function.
        counter: What counts instructions or cycles.
        counter_origin: As `uart_origin`.
        watchdog_origin: As `uart_origin`.
        watchdog_hz: What the watchdog counts with.
        qemu_machine: QEMU's -M.
        openocd_target: OpenOCD's target/NAME.cfg.
        chip_id: DEV_ID of the chip's DBGMCU_IDCODE, which flashing compares; 0: it does not.
        idcode_address: Where that register is.
        mount_label: Label of the ST-LINK's disk; several, separated by spaces, where revisions of
            the board differ.
        usb_id: VID:PID of the debug probe, hexadecimal.
    """

    name: str
    title: str
    run: str
    driver: str
    like: str = ""
    cpu: str = ""
    fpu: str = ""
    clock_hz: int = 0
    ram_origin: int = 0
    ram_bytes: int = 0
    flash_origin: int = 0
    flash_bytes: int = 0
    stack_bytes: int = 0
    storage_origin: int = 0
    storage_bank_bytes: int = 0
    storage_unit_bytes: int = 0
    flash_sectors: str = ""
    uart: str = "stdio"
    uart_baud: int = 115200
    uart_origin: int = 0
    uart_interrupt: int = 0
    uart_tx: str = ""
    uart_rx: str = ""
    uart_alternate: int = 0
    counter: str = "none"
    counter_origin: int = 0
    watchdog_origin: int = 0
    watchdog_hz: int = 0
    qemu_machine: str = ""
    openocd_target: str = ""
    chip_id: int = 0
    idcode_address: int = 0
    mount_label: str = ""
    usb_id: str = ""

    @property
    def firmware_bytes(self) -> int:
        """Flash that the firmware may fill: all before the checkpoints."""
        if self.storage_origin and self.storage_bank_bytes:
            return self.storage_origin - self.flash_origin
        return self.flash_bytes

    @property
    def firmware_name(self) -> str:
        """What its firmware calls the board."""
        return self.like or self.name

    @property
    def simd(self) -> str:
        """Vector instructions of the CPU: "dsp", "mve" or "none"; the host runs those of "dsp"."""
        return _SIMD.get(self.cpu, "dsp")

    @property
    def mount_labels(self) -> tuple[str, ...]:
        """Labels of the ST-LINK's disk, of all revisions of the board."""
        return tuple(self.mount_label.split())


def list_boards(folder: Path | None = None) -> list[str]:
    """Names of all boards, sorted."""
    return sorted(path.stem for path in (folder or data_folder("boards")).glob("*.ini"))


def load_board(name: str, folder: Path | None = None) -> Board:
    """Reads boards/NAME.ini.

    Raises:
        BoardError: No such board, or a key that is unknown, missing or has a wrong value.
    """
    place = folder or data_folder("boards")
    section = _section(name, place)
    if base := section.get("like", "").strip():
        inherited = _section(base, place)
        if "like" in inherited:
            raise BoardError(f"{name}.ini: like = {base!r}, which itself is like another board")
        section = {**inherited, **section}
    return _board(name, section, f"{name}.ini")


def _section(name: str, place: Path) -> dict[str, str]:
    path = place / f"{name}.ini"
    if name not in list_boards(place):
        raise BoardError(f"unknown board {name!r}; allowed: {', '.join(list_boards(place))}")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        return dict(parser[f"board:{name}"])
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise BoardError(
            f"{path.name}: no section [board:{name}] that can be read: {str(error).splitlines()[0]}"
        ) from None


def _board(name: str, section: dict[str, str], source: str) -> Board:
    known = {field.name: field for field in fields(Board) if field.name != "name"}
    for key in section:
        if key not in known:
            raise BoardError(f"{source}: unknown key {key!r}; allowed: {', '.join(sorted(known))}")
    values: dict[str, str | int] = {}
    for key, field in known.items():
        if key not in section:
            if field.default is MISSING:
                raise BoardError(f"{source}: key {key!r} is missing")
            continue
        text = section[key].strip()
        if field.type == "int":
            values[key] = _integer(text, key, source)
        elif key in ALLOWED and text not in ALLOWED[key]:
            allowed = ", ".join(ALLOWED[key])
            raise BoardError(f"{source}: {key} = {text!r}; allowed: {allowed}")
        else:
            values[key] = text
    if values["run"] != "host":
        for key in ("cpu", "ram_bytes", "flash_bytes", "stack_bytes"):
            if not values.get(key):
                raise BoardError(f"{source}: key {key!r} is missing; only the host needs none")
    board = Board(name=name, **values)  # type: ignore[arg-type]
    _check_storage(board, source)
    _check_sectors(board, source)
    for key in ("uart_tx", "uart_rx"):
        _parse(parse_pin, key, getattr(board, key), source)
    return board


def _check_storage(board: Board, source: str) -> None:
    bank, unit, origin = (
        board.storage_bank_bytes,
        board.storage_unit_bytes,
        board.storage_origin,
    )
    if bank == 0:
        return
    if unit not in UNIT_BYTES:
        allowed = ", ".join(map(str, UNIT_BYTES))
        raise BoardError(f"{source}: storage_unit_bytes = {unit}; allowed: {allowed}")
    if bank % unit != 0:
        raise BoardError(
            f"{source}: storage_bank_bytes = {bank}; allowed: a multiple of the {unit} of "
            "storage_unit_bytes"
        )
    if origin == 0 and board.run in IN_FILE:
        return
    first, last = board.flash_origin, board.flash_origin + board.flash_bytes - 2 * bank
    if not first < origin <= last:
        raise BoardError(
            f"{source}: storage_origin = {origin:#x}; allowed: {first + 1:#x} to {last:#x}; then "
            f"two banks of {bank} B fit the flash behind it"
        )


def _check_sectors(board: Board, source: str) -> None:
    sectors = _parse(parse_sectors, "flash_sectors", board.flash_sectors, source)
    if sectors is None:
        return
    starts = sector_starts(sectors)
    if starts[-1] != board.flash_bytes:
        raise BoardError(
            f"{source}: flash_sectors = {board.flash_sectors!r}, {starts[-1]} B in all; allowed: "
            f"the {board.flash_bytes} of flash_bytes"
        )
    if board.storage_bank_bytes == 0:
        return
    first = board.storage_origin - board.flash_origin
    for start in (first + bank * board.storage_bank_bytes for bank in range(3)):
        if start not in starts:
            raise BoardError(
                f"{source}: storage_origin = {board.storage_origin:#x} with banks of "
                f"{board.storage_bank_bytes} B; allowed: banks of whole sectors, and none starts "
                f"at {board.flash_origin + start:#x}"
            )


def _parse(parse: Callable[[str], _Value], key: str, text: str, source: str) -> _Value | None:
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise BoardError(f"{source}: {key} = {text!r}; allowed: {error}") from None


def _integer(text: str, key: str, source: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise BoardError(f"{source}: {key} = {text!r}; allowed: an integer") from None
    if value < 0:
        raise BoardError(f"{source}: {key} = {value}; allowed: 0 or more")
    return value
