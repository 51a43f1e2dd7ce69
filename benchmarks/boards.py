"""The demo's firmware for every real board: what it takes, and whether it fits.

    make boards          # builds them all and writes the table of docs/boards.md
    make boards-check    # builds them all; fails where one does not build or fit

Nothing runs: there is no board here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ondevice.boards import Board, list_boards, load_board
from ondevice.build import BuildError, Firmware, build_firmware
from ondevice_compiler.atomic_file import write_text_atomically

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "boards.md"
FOLDER = ROOT / "build" / "boards"
START, END = "<!-- made by `make boards` -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Built:
    """The demo on one board.

    Attributes:
        board: Target.
        firmware: None where it does not fit.
        refusal: Why not.
    """

    board: Board
    firmware: Firmware | None
    refusal: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("names", nargs="*", help="boards; all real ones if none is named")
    arguments = parser.parse_args()
    boards = [load_board(name) for name in arguments.names or list_boards()]
    boards = [board for board in boards if arguments.names or board.run == "serial"]
    began = time.monotonic()
    models = {simd: compile_demo(simd, boards) for simd in {board.simd for board in boards}}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        built = list(pool.map(lambda board: build(board, models[board.simd]), boards))
    table = list(rows(built))
    print("\n".join(table))
    print(f"{len(built)} boards in {time.monotonic() - began:.0f} s")
    if not arguments.check:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(START)
        _, after = rest.split(END)
        write_text_atomically(PAGE, before + START + "\n".join(table) + "\n" + END + after)
    return 1 if any(one.firmware is None for one in built) else 0


def compile_demo(simd: str, boards: Iterable[Board]) -> Path:
    """Compiles the demo as `ondevice compile` does by default, once for all CPUs of a kind."""
    folder = FOLDER / f"model-{simd}"
    smallest = min((b for b in boards if b.simd == simd), key=lambda board: board.ram_bytes)
    command = [sys.executable, "-m", "ondevice", "compile", "--board", smallest.name]
    subprocess.run([*command, "-o", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def build(board: Board, model: Path) -> Built:
    """Builds the firmware; does not raise where it does not fit."""
    try:
        return Built(board, build_firmware(model, board, FOLDER / board.name))
    except BuildError as error:
        return Built(board, None, str(error))


def rows(built: Iterable[Built]) -> Iterable[str]:
    """The table's lines."""
    yield "| board | CPU | flash, B | RAM with the stack, B | of it stack, B | ran on silicon |"
    yield "|---|---|---|---|---|---|"
    for one in built:
        board, firmware = one.board, one.firmware
        cpu = f"{board.cpu.replace('cortex-m', 'Cortex-M').replace('plus', '+')}, {_mhz(board)}"
        if firmware is None:
            yield f"| `{board.name}` | {cpu} | does not fit: {one.refusal} | | | no |"
            continue
        yield (
            f"| `{board.name}` | {cpu} | {firmware.flash_bytes:,} of {board.firmware_bytes:,} "
            f"| {firmware.ram_bytes:,} of {board.ram_bytes:,} | {board.stack_bytes:,} | no |"
        )


def _mhz(board: Board) -> str:
    return f"{board.clock_hz // 1_000_000} MHz"


if __name__ == "__main__":
    sys.exit(main())
