"""Builds kernels for a board and counts one call of each, several at a time."""

from __future__ import annotations

import re
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
from ondevice.build import require_tool, simulation_command
from ondevice.elf import function_bytes, section_sizes
from ondevice.errors import UserError
from ondevice.linker_script import linker_script
from ondevice.measure.task import KernelSource, Task, measured_source
from ondevice.places import project_root
from ondevice.toolchain import CODE, LINK, definitions, machine_flags, tool_prefix

TIMEOUT_S = 300
_OWN_CONSTANTS = (".rodata.od_arena", ".rodata.od_scale", ".rodata.od_measured")
_FOUND = re.compile(r"measured (\d+) (\d+)")
_RUNTIME = ("activation", "crc32", "fixed_point", "gradient", "loss", "optimizer", "square_root")


class MeasureError(UserError):
    """A kernel that does not compile, link or run."""


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
        board: Simulated, with a counter that resolves single instructions.
        jobs: Compilers or simulators at a time.
    """

    def __init__(self, board: Board, jobs: int = 2) -> None:
        if board.run != "qemu" or board.counter != "tim2":
            raise MeasureError(
                f"board {board.name!r} cannot count single instructions; use qemu_f405"
            )
        self.board = board
        self._jobs = jobs
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
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            folder = Path(name)
            elf = self.build(task, kernel, folder)
            count, checksum = self.run(elf)
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

    def build(self, task: Task, kernel: KernelSource, folder: Path) -> Path:
        """Compiles and links one kernel; returns the ELF file.

        Raises:
            MeasureError: It does not compile or fit.
        """
        (folder / "arena.bin").write_bytes(task.arena())
        source = folder / "kernel.c"
        source.write_text(measured_source(task, kernel), encoding="utf-8")
        compiled = self._compile(source, folder)
        elf = folder / "kernel.elf"
        gcc = f"{tool_prefix(self.board)}gcc"
        machine = machine_flags(self.board)
        objects = [str(path) for path in (compiled, *self._objects)]
        script = f"-T{self._folder / 'board.ld'}"
        _run([gcc, *machine, *LINK, script, *objects, "-lc", "-lgcc", "-o", str(elf)], folder)
        return elf

    def run(self, elf: Path) -> tuple[int, int]:
        """(count, checksum) of a built kernel.

        Raises:
            MeasureError: It does not end, or faults.
        """
        command = simulation_command(str(elf), self.board)
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise MeasureError(f"{elf.name}: no end in {TIMEOUT_S} s") from None
        found = _FOUND.search(done.stdout)
        if found is None:
            said = (done.stderr or done.stdout).strip()[:300]
            raise MeasureError(f"{elf.name}: no count (exit code {done.returncode}): {said}")
        return int(found[1]), int(found[2])

    def _prepare(self) -> None:
        root = project_root()
        (self._folder / "board.ld").write_text(linker_script(self.board), encoding="utf-8")
        firmware = root / "firmware"
        sources = [
            firmware / "measure" / "measure.c",
            *sorted((firmware / "src" / "cortex_m").glob("*.c")),
            *sorted((firmware / "src" / self.board.driver).glob("*.c")),
            *(root / "runtime" / "src" / f"{name}.c" for name in _RUNTIME),
        ]
        with ThreadPoolExecutor(self._jobs) as pool:
            self._objects = list(pool.map(lambda path: self._compile(path, self._folder), sources))
        own: set[str] = {"od_crc32"}
        for path in self._objects[: -len(_RUNTIME)]:
            own |= set(function_bytes(path))
        self._own = frozenset(own)

    def _compile(self, source: Path, folder: Path) -> Path:
        root = project_root()
        include = ["runtime/include", "firmware/src", "firmware/measure"]
        target = folder / f"{source.stem}.o"
        macros = [f"-D{name}={value}" for name, value in definitions(self.board).items()]
        command = [f"{tool_prefix(self.board)}gcc", *machine_flags(self.board), "-std=c99"]
        command += [*CODE, *macros, *(f"-I{root / path}" for path in include)]
        _run([*command, "-c", str(source), "-o", str(target)], folder)
        return target


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "rror" in line or "overflow" in line]
        raise MeasureError(f"{Path(command[-1]).name}: {(lines or [done.stderr])[0][:300]}")
