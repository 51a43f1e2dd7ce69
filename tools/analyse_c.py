"""Static analysis of the C: clang-tidy and cppcheck over runtime/, firmware/ and a generated model.

    make analyse

Each driver is read as its board compiles it (CPU, macros); what is analysed for one board is not
repeated for another with the same driver. clang-tidy's checks are in .clang-tidy; what cppcheck is
told not to say, and why, is in tools/cppcheck_suppressions.txt.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ondevice.boards import Board, list_boards, load_board
from ondevice.toolchain import definitions, driver_folders, machine_flags

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = sorted((ROOT / "runtime" / "src").glob("*.c"))
FIRMWARE = ROOT / "firmware" / "src"
MODEL = ROOT / "build" / "analyse"
GCC_ONLY = ("-mfpu=auto", "-fno-if-conversion2")
INCLUDES = [f"-I{ROOT / 'runtime/include'}", f"-I{FIRMWARE}"]
# Of the checks in .clang-tidy, those that a part cannot pass, and why.
LEFT_OUT = {
    # The linker script's symbols lie in one memory, which is longer than their declared type.
    "firmware": "-clang-analyzer-security.ArrayBound,-clang-analyzer-security.PointerSub",
    # Printed by a compiler: long functions in a header.
    "model": "-readability-*,-misc-definitions-in-headers",
}
CPPCHECK = [
    "--quiet",
    "--error-exitcode=1",
    "--std=c99",
    "--enable=warning,style,performance,portability",
    "--inline-suppr",
    f"--suppressions-list={ROOT / 'tools/cppcheck_suppressions.txt'}",
]


@dataclass(frozen=True)
class Part:
    """Files that are analysed in one way.

    Attributes:
        name: For people.
        kind: "runtime", "firmware" or "model".
        files: Translation units.
        flags: Of the compiler: CPU, macros, folders of headers.
        platform: cppcheck's name for the sizes of C's types.
    """

    name: str
    kind: str
    files: tuple[Path, ...]
    flags: tuple[str, ...]
    platform: str


def parts() -> list[Part]:
    """The runtime, the firmware of one board a driver, and the demo model."""
    native = ("-D_POSIX_C_SOURCE=200809L", *INCLUDES)
    found = [Part("runtime", "runtime", tuple(RUNTIME), native, "unix64")]
    drivers: set[tuple[str, str]] = set()
    for board in map(load_board, list_boards()):
        if (board.driver, board.counter) not in drivers:
            drivers.add((board.driver, board.counter))
            found.append(_firmware(board))
    found.append(Part("model", "model", (MODEL / "model.c",), (*native, f"-I{MODEL}"), "unix64"))
    return found


def _firmware(board: Board) -> Part:
    macros = {"OD_BOARD_NAME": f'"{board.name}"', **definitions(board)}
    files = list(FIRMWARE.glob("*.c"))
    for folder in driver_folders(board):
        files += (FIRMWARE / folder).glob("*.c")
    flags = [f"-D{name}={value}" for name, value in macros.items()] + INCLUDES
    flags.append(f"-I{FIRMWARE / board.driver}")
    if board.run == "host":
        return Part(board.name, "firmware", tuple(sorted(files)), tuple(flags), "unix64")
    machine = [flag for flag in machine_flags(board) if flag not in GCC_ONLY]
    target = ["--target=arm-none-eabi", *machine, *_newlib()]
    return Part(board.name, "firmware", tuple(sorted(files)), (*target, *flags), "arm32-wchar_t4")


def _newlib() -> list[str]:
    command = ["arm-none-eabi-gcc", "-print-file-name=libc.a"]
    library = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return [f"-isystem{Path(library).resolve().parent.parent / 'include'}"]


def clang_tidy(part: Part) -> tuple[bool, str]:
    """Whether the part is clean, and what is said if not."""
    checks = [f"--checks={LEFT_OUT[part.kind]}"] if part.kind in LEFT_OUT else []
    files = map(str, part.files)
    return _run(["clang-tidy", "--quiet", *checks, *files, "--", "-std=c99", *part.flags])


def cppcheck(part: Part) -> tuple[bool, str]:
    """The same by cppcheck."""
    flags = [flag for flag in part.flags if flag.startswith(("-D", "-I"))]
    # It reads statements of assembler, but no variable that is bound to a register.
    flags += ["-D__arm__", "-D__asm__(name)="] if part.platform != "unix64" else []
    level = "reduced" if part.kind == "model" else "exhaustive"  # minutes for long kernels
    options = [*CPPCHECK, f"--check-level={level}", f"--platform={part.platform}"]
    options += ["--suppress=variableScope"] if part.kind == "model" else []
    return _run(["cppcheck", *options, *flags, *map(str, part.files)])


def _run(command: list[str]) -> tuple[bool, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    if done.returncode == 0:
        return True, ""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return False, "\n".join(lines)


def main() -> int:
    """Prints what the tools find; returns 1 where it is anything."""
    compile_demo = [sys.executable, "-m", "ondevice", "compile", "-o", str(MODEL)]
    subprocess.run(compile_demo, check=True, stdout=subprocess.DEVNULL)
    jobs = [(tool, part) for part in parts() for tool in (clang_tidy, cppcheck)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda job: job[0](job[1]), jobs))
    clean = True
    for (tool, part), (passed, output) in zip(jobs, results, strict=True):
        if not passed:
            clean = False
            print(f"{tool.__name__} of {part.name}:\n{output}\n")
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
