"""Firmware: built by PlatformIO from runtime, firmware and a compiled model."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ondevice.boards import Board
from ondevice.elf import read_sizes
from ondevice.errors import UserError
from ondevice.flash import flash_file
from ondevice.image import ImageHeader, check_images, seal_image
from ondevice.key import check_board_takes_key
from ondevice.places import project_root

_QUIET = {
    "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
    "PLATFORMIO_DISABLE_UPGRADE_CHECK": "true",
    "PLATFORMIO_DISABLE_PROGRESSBAR": "true",
    "PLATFORMIO_NO_ANSI": "true",
}
_OVERFLOW = re.compile(r"region `(\w+)' overflowed by (\d+) bytes")
_DEBIAN = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-objdump": "binutils-arm-none-eabi",
    "gcc": "gcc libc6-dev",
    "qemu-system-arm": "qemu-system-arm",
}


class BuildError(UserError):
    """The firmware cannot be built, or does not fit."""


@dataclass(frozen=True)
class Firmware:
    """A built firmware.

    Attributes:
        elf: The program (of the host board: an executable).
        binary: Raw image to flash; None for the host.
        flash_bytes: As programmed; None for the host.
        data_bytes: Initialised and zeroed RAM; None for the host.
        stack_bytes: Stack reserve; None for the host.
        image: What the image says of itself.
    """

    elf: Path
    binary: Path | None
    flash_bytes: int | None
    data_bytes: int | None
    stack_bytes: int | None
    image: ImageHeader

    @property
    def ram_bytes(self) -> int | None:
        """All of the RAM, the stack's reserve included; None for the host."""
        if self.data_bytes is None or self.stack_bytes is None:
            return None
        return self.data_bytes + self.stack_bytes


def build_firmware(
    model_dir: Path,
    board: Board,
    build_dir: Path,
    key: bytes | None = None,
    allow_export: bool | None = None,
) -> Firmware:
    """Builds a model's firmware for a board.

    Args:
        model_dir: Written by the compiler.
        board: Target.
        build_dir: Objects and results; its own for each model and board.
        key: The firmware serves only who has it, too; None: anybody.
        allow_export: Whether private data may be read from it; None: of host and QEMU boards only.

    Raises:
        BuildError: A tool is missing, the C does not compile, or it does not fit the board: by how
            many bytes.
    """
    require_tool("gcc" if board.run == "host" else "arm-none-eabi-gcc")
    build_dir.mkdir(parents=True, exist_ok=True)
    with (build_dir / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Boards that are started at once share the folder.
        return _build_alone(model_dir, board, build_dir, key, allow_export)


def _build_alone(
    model_dir: Path, board: Board, build_dir: Path, key: bytes | None, allow_export: bool | None
) -> Firmware:
    root = project_root()
    environment = {
        **os.environ,
        **_QUIET,
        "PLATFORMIO_CORE_DIR": str(build_dir.resolve() / "platformio"),
        "PLATFORMIO_BUILD_DIR": str(build_dir.resolve() / "out"),
        "PLATFORMIO_WORKSPACE_DIR": str(build_dir.resolve() / "workspace"),
        "ONDEVICE_MODEL_DIR": str(model_dir.resolve()),
    }
    if allow_export is not None:
        environment["ONDEVICE_ALLOW_EXPORT"] = str(int(allow_export))
    if key is not None:
        check_board_takes_key(board)
    command = [sys.executable, "-m", "platformio", "run", "-d", str(root), "-e", board.name]
    command += ["-c", str(root / "firmware" / "platformio.ini")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=root
    )
    output = done.stdout + done.stderr
    if done.returncode != 0:
        raise _failure(output, board, build_dir)
    folder = build_dir / "out" / board.name
    if board.run == "host":
        program = folder / "firmware"
        return Firmware(program, None, None, None, None, seal_image(program, None, key))
    elf = folder / "firmware.elf"
    sizes = read_sizes(elf)
    if sizes.heap_symbols:
        raise BuildError(f"{elf}: links {', '.join(sizes.heap_symbols)}: no heap is allowed")
    binary = folder / "firmware.bin"
    image = seal_image(elf, binary, key, renew=board.run == "serial")
    return Firmware(elf, binary, sizes.flash_bytes, sizes.data_bytes, sizes.stack_bytes, image)


def built_elf(build_dir: Path, board: Board) -> Path | None:
    """The program that an earlier `build_firmware` left in its folder."""
    elf = build_dir / "out" / board.name / "firmware.elf"
    return elf if elf.is_file() else None


def simulate_command(
    firmware: Firmware,
    board: Board,
    flash_file: Path | None = None,
    sensor_file: Path | None = None,
) -> list[str]:
    """The process whose standard input and output are the board's UART.

    It restarts as a real board does, after a fault and by its watchdog.

    Args:
        firmware: Of the board.
        board: A simulated one.
        flash_file: Where it keeps checkpoints (`ondevice.flash_file`); None: it keeps none.
        sensor_file: What its sensor plays (`ondevice.sensor_file`); None: it has no sensor.

    Raises:
        BuildError: QEMU is not installed, or the board is a real one.
    """
    program = str(firmware.elf)
    return simulation_command(program, board, True, flash_file, sensor_file)


def simulation_command(
    program: str,
    board: Board,
    restarts: bool = False,
    flash_file: Path | None = None,
    sensor_file: Path | None = None,
) -> list[str]:
    """See `simulate_command`; without `restarts` a restart ends the process."""
    if board.run == "host":
        return [program, str(flash_file or ""), str(sensor_file or "")]
    if board.run == "renode":
        raise BuildError(f"board {board.name!r} runs in Renode, whose UART is no standard input")
    if board.run != "qemu":
        raise BuildError(f"board {board.name!r} is a real one and cannot be simulated")
    require_tool("qemu-system-arm")
    semihosting = "enable=on,target=native"
    files = {"flash": flash_file, "sensor": sensor_file}
    lines = [f"{kind}:{path}" for kind, path in files.items() if path is not None]
    if lines:
        escaped = "\n".join(lines).replace(",", ",,")  # as QEMU's options want a comma
        semihosting += f",arg={escaped}"
    return [
        "qemu-system-arm",
        *("-M", board.qemu_machine),
        *("-nodefaults", "-display", "none", "-monitor", "none"),
        *(() if restarts else ("-no-reboot",)),
        *("-serial", "stdio"),
        # One instruction is one nanosecond of virtual time: the timers count instructions.
        *("-icount", "shift=0,sleep=off,align=off"),
        *("-semihosting-config", semihosting),
        *("-kernel", program),
    ]


def flash(firmware: Firmware, board: Board, port: str | None = None, tool: str = "auto") -> str:
    """Puts a firmware on a real board; see `ondevice.flash.flash_file`."""
    check_images(firmware.elf)
    return flash_file(firmware.elf, board, port, tool)


def require_tool(tool: str) -> None:
    """Refuses where a program is not installed.

    Raises:
        BuildError: With the Debian package that has it.
    """
    if shutil.which(tool) is None:
        raise BuildError(f"{tool} is not installed: `apt-get install {_DEBIAN[tool]}`")


def _failure(output: str, board: Board, build_dir: Path) -> BuildError:
    log = build_dir / "build.log"
    log.write_text(output, encoding="utf-8")
    overflows = {region: int(size) for region, size in _OVERFLOW.findall(output)}
    if overflows:
        limits = {"RAM": board.ram_bytes, "FLASH": board.firmware_bytes}
        parts = [
            f"{size} B too many for the {limits.get(region, 0)} B of {region}"
            for region, size in overflows.items()
        ]
        return BuildError(
            f"the firmware does not fit {board.name}: {', '.join(parts)} "
            f"(a stack of {board.stack_bytes} B included); choose a smaller scheme or model"
        )
    lines = [line.strip() for line in output.splitlines() if "rror" in line]
    first = lines[0][:300] if lines else "no message"
    return BuildError(f"the firmware for {board.name} does not build: {first} (all of it: {log})")
