"""The worst-case stack of the demo's firmware, and what a run really uses (painted).

    make stack                               # every board
    make stack ARGS="qemu_f405 nucleo_g071rb"

Prints a table for docs/quality.md. A run is a training step, an evaluation, an upload of all
parameters and, where the board has flash, a checkpoint saved and loaded.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ondevice.boards import list_boards, load_board
from ondevice.build import BuildError, build_firmware, simulate_command
from ondevice.flash_file import prepare_flash_file
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport
from ondevice.stack_bound import firmware_stack_bound

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "stack"


def painted_bytes(name: str, firmware_dir: Path) -> int | None:
    """What one run used; None where the board is not simulated here."""
    board = load_board(name)
    if board.run != "qemu":
        return None
    firmware = build_firmware(BUILD / "model", board, firmware_dir)
    flash = None
    if board.storage_bank_bytes:
        flash = prepare_flash_file(BUILD / f"{name}.flash", board)
    with Device(ProcessTransport(simulate_command(firmware, board, flash))) as device:
        device.write_input(bytes(device.info.input_bytes))
        device.write_label(bytes(device.info.label_bytes))
        device.train(0.01)
        device.evaluate()
        device.write_parameters(device.read_parameters())
        if flash is not None:
            device.save_checkpoint(0.5)
            device.load_checkpoint()
        return device.memory().stack_high_water_bytes


def row(name: str) -> str:
    """One board's row."""
    board = load_board(name)
    try:
        firmware = build_firmware(BUILD / "model", board, BUILD / name)
    except BuildError as error:
        return f"| {name} | {board.cpu} | does not fit: {error} | | | |"
    bound = firmware_stack_bound(firmware.elf, board)
    painted = painted_bytes(name, BUILD / name)
    shown = "not run" if painted is None else f"{painted:,} B"
    share = "" if painted is None else f"{100 * painted / bound.program_bytes:.0f} %"
    return (
        f"| {name} | {board.cpu} | {board.stack_bytes:,} B | {bound.program_bytes:,} B | {shown} | "
        f"{share} | {bound.handler_bytes} B |"
    )


def main() -> None:
    """Prints the table."""
    names = sys.argv[1:] or [
        n for n in list_boards() if load_board(n).run not in ("host", "renode")
    ]
    command = [sys.executable, "-m", "ondevice", "compile", "-o", str(BUILD / "model")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print("| board | CPU | reserve | at most | a run used | of it | interrupts, of 512 B |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
