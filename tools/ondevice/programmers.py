"""Programs that flash a board, and what each is told: OpenOCD, st-flash, or those of PlatformIO."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ondevice.boards import Board

# Said by our own script, so that a message can quote the chip.
WRONG_CHIP = "ondevice: chip id"


@dataclass(frozen=True)
class Programmer:
    """An installed program that flashes by the ST-LINK.

    Attributes:
        tool: "openocd", "st-flash" or "platformio".
        program: Its file.
        scripts: Folder of OpenOCD's scripts; None: where it looks itself.
    """

    tool: str
    program: Path
    scripts: Path | None = None

    @property
    def is_openocd(self) -> bool:
        """Whether it takes OpenOCD's arguments; else st-flash's."""
        return self.program.stem == "openocd"

    def command(self, elf: Path, board: Board, serial_number: str) -> list[str]:
        """What is run.

        Args:
            elf: Firmware; its raw image lies beside it.
            board: Where it goes.
            serial_number: Of the ST-LINK; empty: of the only one.
        """
        if self.is_openocd:
            return [str(self.program), *_openocd(elf, board, serial_number, self.scripts)]
        chosen = ["--serial", serial_number] if serial_number else []
        image = str(elf.with_suffix(".bin"))
        return [str(self.program), *chosen, "--reset", "write", image, hex(board.flash_origin)]


def find_programmers(board: Board, packages: Path | None = None) -> list[Programmer]:
    """Those that are installed and know the board, best first.

    Args:
        board: A real one.
        packages: PlatformIO's folder of packages; None: the person's.
    """
    place = packages or platformio_packages()
    found = []
    if (openocd := shutil.which("openocd")) and board.openocd_target:
        found.append(Programmer("openocd", Path(openocd)))
    if st_flash := shutil.which("st-flash"):
        found.append(Programmer("st-flash", Path(st_flash)))
    openocd_package = place / "tool-openocd"
    bundled = openocd_package / "bin" / "openocd"
    if bundled.is_file() and board.openocd_target:
        folders = (openocd_package / "openocd" / "scripts", openocd_package / "scripts")
        scripts = next((folder for folder in folders if folder.is_dir()), None)
        found.append(Programmer("platformio", bundled, scripts))
    for bundled in sorted((place / "tool-stm32duino").glob("**/st-flash")):
        found.append(Programmer("platformio", bundled))
    return found


def platformio_packages() -> Path:
    """Where PlatformIO keeps the packages of the person's other projects."""
    core = os.environ.get("PLATFORMIO_CORE_DIR")
    return (Path(core) if core else Path.home() / ".platformio") / "packages"


def explain(said: Sequence[str]) -> str:
    """What the person can do about what a programmer said; empty: nothing known."""
    text = " ".join(said).lower()
    for signs, advice in _ADVICE:
        if any(sign in text for sign in signs):
            return advice
    return ""


def _openocd(elf: Path, board: Board, serial_number: str, scripts: Path | None) -> list[str]:
    commands = []
    if serial_number:
        # Its name before OpenOCD 0.12 was hla_serial.
        commands.append(f"if {{[catch {{adapter serial {serial_number}}}]}} "
                        f"{{hla_serial {serial_number}}}")  # fmt: skip
    check = []
    if board.chip_id:
        found = f"[expr {{[mrw {board.idcode_address:#x}] & 0xfff}}]"
        check = [
            "init",
            "reset halt",
            f"set found {found}; if {{$found != {board.chip_id}}} "
            f'{{echo "{WRONG_CHIP} [format 0x%03x $found]"; shutdown error}}',
        ]
    programmed = [*check, f"program {{{elf}}} verify reset exit"]
    return [
        *(("-s", str(scripts)) if scripts is not None else ()),
        *("-f", "interface/stlink.cfg"),
        *(word for command in commands for word in ("-c", command)),
        *("-f", f"target/{board.openocd_target}.cfg"),
        *(word for command in programmed for word in ("-c", command)),
    ]


_ADVICE = (
    (
        ("libusb_error_access", "access denied", "permission denied", "insufficient permissions"),
        "your account may not open the ST-LINK: install its udev rule "
        "(`sudo apt-get install openocd` or `stlink-tools` brings one), then unplug the board and "
        "plug it in again; see `ondevice doctor`",
    ),
    (
        ("libusb_error_busy", "resource busy", "claim_interface", "unable to claim"),
        "another program (a debugger, an IDE) holds the ST-LINK: close it",
    ),
    (
        ("open failed", "couldn't find any st-link", "no st-link detected", "no device found",
         "unable to match requested serial"),
        "no ST-LINK was found or it may not be opened: check the cable; "
        "see `ondevice ports` and `ondevice doctor`",
    ),
    (
        ("unknown chip id", "unknown chipid"),
        "it does not know this chip: take a newer version, or OpenOCD (`--tool openocd`)",
    ),
    (
        ("init mode failed", "cannot identify target",
         "target not examined", "unable to connect to the target"),
        "the ST-LINK does not reach the chip: is it powered, are the ST-LINK's jumpers in place?",
    ),
)  # fmt: skip
