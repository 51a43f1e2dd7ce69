"""Builds kernels for a board and counts one call of each, several at a time."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ondevice.boards import Board
from ondevice.build import require_tool
from ondevice.elf import function_bytes, section_sizes
from ondevice.linker_script import linker_script
from ondevice.measure.execute import MeasureError, run_measured
from ondevice.measure.task import KernelSource, Task, measured_source
from ondevice.places import project_root
from ondevice.toolchain import CODE, LINK, definitions, driver_folders, machine_flags, tool_prefix

_OWN_CONSTANTS = (".rodata.od_arena", ".rodata.od_scale", ".rodata.od_measured")
# What is linked around every kernel, hence not counted as its code.
_IDLE = """#include "measured.h"
uint32_t od_arena[1];
const uint32_t od_arena_first[1] = {0}, od_arena_bytes = 4, od_scale_count = 0;
od_grad_scale_t od_scales[1];
const od_grad_scale_t od_scales_first[1] = {{0}};
const float od_measured_rate = 0.0f;
void od_measured(float rate) { (void)rate; }
"""
_RUNTIME = (
    "activation",
    "cobs",
    "crc32",
    "fixed_point",
    "frame",
    "gradient",
    "loss",
    "optimizer",
    "square_root",
)


@dataclass(frozen=True)
class Measurement:
    """One call of one kernel.

    Attributes:
        count: Retired instructions in QEMU, cycles on a board.
        code_bytes: Of the kernel and of everything that it alone calls.
        const_bytes: Of its tables and frozen parameters.
        checksum: CRC-32 of all that it could write: equal for kernels that are bit-exact.
    """

    count: int
    code_bytes: int
    const_bytes: int
    checksum: int


class Bench:
    """Measures on one board.

    Args:
        board: Simulated or real.
        jobs: Compilers or simulators at a time; one on a real board.
        port: Of a real board.

    Raises:
        MeasureError: The board has no counter.
    """

    def __init__(self, board: Board, jobs: int = 2, port: str | None = None) -> None:
        if board.counter == "none":
            raise MeasureError(f"board {board.name!r} has no counter; use qemu_f405")
        self.board = board
        self._jobs = jobs if board.run == "qemu" else 1
        self._port = port
        self._folder = Path(tempfile.mkdtemp(prefix="ondevice-measure-"))
        self._objects: list[Path] = []
        self._own: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        require_tool("arm-none-eabi-gcc")
        self._prepare()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def measure(self, task: Task, kernel: KernelSource) -> Measurement:
        """Builds and runs one kernel.

        Raises:
            MeasureError: It does not compile, fit, or end.
        """
        return self.measure_source(measured_source(task, kernel), task.operands())

    def measure_source(self, source: str, operands: bytes) -> Measurement:
        """See `measure`; from what `measured_source` and `Task.operands` give."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            elf = self._build(source, operands, folder)
            count, checksum = run_measured(elf, self.board, self._port)
            functions = function_bytes(elf)
            return Measurement(
                count=count,
                code_bytes=sum(n for f, n in functions.items() if f not in self._own),
                const_bytes=sum(
                    size
                    for section, size in section_sizes(folder / "kernel.o").items()
                    if section.startswith(".rodata") and not section.startswith(_OWN_CONSTANTS)
                ),
                checksum=checksum,
            )

    def measure_all(
        self, pairs: Iterable[tuple[Task, KernelSource]]
    ) -> Iterator[Measurement | MeasureError]:
        """Measures all, several at a time; in order."""

        def attempt(pair: tuple[Task, KernelSource]) -> Measurement | MeasureError:
            try:
                return self.measure(*pair)
            except MeasureError as error:
                return error

        with ThreadPoolExecutor(self._jobs) as pool:
            yield from pool.map(attempt, pairs)

    def _build(self, text: str, operands: bytes, folder: Path) -> Path:
        (folder / "operands.bin").write_bytes(operands)
        source = folder / "kernel.c"
        source.write_text(text, encoding="utf-8")
        compiled = self._compile(source, folder)
        elf = folder / "kernel.elf"
        gcc = f"{tool_prefix(self.board)}gcc"
        machine = machine_flags(self.board)
        objects = [str(path) for path in (compiled, *self._objects)]
        script = f"-T{self._folder / 'board.ld'}"
        _run([gcc, *machine, *LINK, script, *objects, "-lc", "-lgcc", "-o", str(elf)], folder)
        return elf

    def _prepare(self) -> None:
        root = project_root()
        (self._folder / "board.ld").write_text(linker_script(self.board), encoding="utf-8")
        firmware = root / "firmware"
        sources = [
            firmware / "measure" / "measure.c",
            *(
                path
                for folder in driver_folders(self.board)
                for path in sorted((firmware / "src" / folder).glob("*.c"))
            ),
            *(root / "runtime" / "src" / f"{name}.c" for name in _RUNTIME),
        ]
        with ThreadPoolExecutor(self._jobs) as pool:
            self._objects = list(pool.map(lambda path: self._compile(path, self._folder), sources))
        idle = self._build(_IDLE, bytes(4), self._folder)
        self._own = frozenset(function_bytes(idle)) - {"od_measured"}

    def _compile(self, source: Path, folder: Path) -> Path:
        root = project_root()
        driver = f"firmware/src/{self.board.driver}"
        include = ["runtime/include", "firmware/src", driver, "firmware/measure"]
        target = folder / f"{source.stem}.o"
        macros = [f"-D{name}={value}" for name, value in definitions(self.board).items()]
        command = [f"{tool_prefix(self.board)}gcc", *machine_flags(self.board), "-std=c99"]
        command += [
            *(flag for flag in CODE if flag != "-g"),
            *macros,
            *(f"-I{root / path}" for path in include),
        ]
        _run([*command, "-c", str(source), "-o", str(target)], folder)
        return target


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "rror" in line or "overflow" in line]
        raise MeasureError(f"{Path(command[-1]).name}: {(lines or [done.stderr])[0][:300]}")
