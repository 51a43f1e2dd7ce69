"""Counts instructions of layers and of whole steps in QEMU, beside plain C and published kernels.

make kernels                       all of it: docs/kernels.md and benchmarks/kernels.json
make kernels ARGS="--board qemu_mps3_an547"   the layers on another core, printed
make kernels ARGS="-k 1x1"         only what has 1x1 in its name, printed, nothing written
make kernels-check                 fails where a layer's count is over 2 % above the recorded one
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from layers import tasks
from naive import naive_kernel
from steps import StepRow, steps

from ondevice.boards import load_board
from ondevice.measure.bench import Bench, Measurement
from ondevice.measure.task import Task, lowered_kernel
from ondevice_compiler.lower import lower
from ondevice_compiler.tiling.database import measured_tile
from ondevice_compiler.tiling.simd import for_simd

HERE = Path(__file__).resolve().parent
RECORD = HERE / "kernels.json"
REFERENCES = HERE / "reference_kernels.json"
DOCUMENT = HERE.parent / "docs" / "kernels.md"
BOARD = "qemu_f405"
ALLOWED = 1.02  # More than 2 % above the record is a regression.


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        name: Of the layer.
        macs: Multiply-accumulates; 0 where it has none.
        elements: Of its output.
        instructions, code_bytes, const_bytes: Of the compiler's kernel.
        naive_instructions: Of the plain loops; 0: not written.
        exact: The plain loops wrote the same bytes.
    """

    name: str
    macs: int
    elements: int
    instructions: int
    code_bytes: int
    const_bytes: int
    naive_instructions: int
    exact: bool

    @property
    def work(self) -> int:
        """What instructions are divided by: MACs, or elements where there are none."""
        return self.macs or self.elements

    @property
    def unit(self) -> str:
        """What `work` counts."""
        return "MAC" if self.macs else "element"


def measure(names: list[str], jobs: int, naive: bool, board: str = BOARD) -> Iterator[Row]:
    """Measures the layers, in order.

    Raises:
        SystemExit: A kernel does not build or run.
    """
    makers = tasks()
    chosen = [makers[name]() for name in names]
    target = load_board(board)
    tiles = for_simd(target.simd, measured_tile)
    kernels = [(task, lowered_kernel(task, lower(task.program, tiles=tiles))) for task in chosen]
    plain = [(task, naive_kernel(task)) for task in chosen] if naive else []
    extra = [(task, kernel) for task, kernel in plain if kernel is not None]
    with Bench(target, jobs) as bench:
        results = bench.measure_all([*kernels, *extra])
        ours = [_sound(task, next(results)) for task, _ in kernels]
        others = {task.name: _sound(task, next(results)) for task, _ in extra}
    for task, found in zip(chosen, ours, strict=True):
        other = others.get(task.name)
        yield Row(
            task.name,
            task.macs,
            task.program.tensor(task.program.steps[0].outputs[0]).elements,
            found.count,
            found.code_bytes,
            found.const_bytes,
            0 if other is None else other.count,
            other is None or other.checksum == found.checksum,
        )


def _sound(task: Task, found: Measurement | Exception) -> Measurement:
    if isinstance(found, Exception):
        sys.exit(f"{task.name}: {found}")
    return found


def references() -> dict[str, dict[str, float]]:
    """Instructions per MAC of published kernels on the same shapes: layer -> library -> figure."""
    loaded: dict[str, dict[str, float]] = json.loads(REFERENCES.read_text())["layers"]
    return loaded


def lines(rows: list[Row]) -> Iterator[str]:
    """The table, in Markdown."""
    known = references()
    libraries = json.loads(REFERENCES.read_text())["libraries"]
    heads = ["layer", "M MAC", "instructions", "per MAC", "code", "plain C", *libraries]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        published = known.get(row.name, {})
        each = f"{row.instructions / row.work:.2f}"
        plain = f"{row.naive_instructions / row.work:.2f}" if row.naive_instructions else ""
        cells = [
            row.name,
            f"{row.macs / 1e6:.3f}" if row.macs else "",
            f"{row.instructions:,}",
            each if row.macs else f"{each} an element",
            f"{row.code_bytes:,} B",
            plain if row.exact else f"{plain} DIFFERS",
            *(str(published.get(library, "")) for library in libraries),
        ]
        yield f"| {' | '.join(cells)} |"


def step_lines(rows: list[StepRow]) -> Iterator[str]:
    """The table of whole steps, in Markdown; instructions in millions."""
    heads = ["step", "M MAC", "forward", "dX", "dW, update", "rest", "M instructions", "per MAC"]
    yield f"| {' | '.join([*heads, 'code', 'flash', 'RAM'])} |"
    yield f"|{'---|' * (len(heads) + 3)}"
    known = json.loads(REFERENCES.read_text())["steps"]
    for row in rows:
        parts = (row.forward, row.dx, row.dw, row.rest, row.step)
        cells = [row.name, f"{row.macs / 1e6:.2f}", *(f"{part / 1e6:.2f}" for part in parts)]
        cells += [f"{row.step / row.macs:.2f}", f"{row.code_bytes:,} B"]
        yield f"| {' | '.join(cells)} | {row.flash_bytes:,} B | {row.ram_bytes:,} B |"
        if row.name in known:
            other = known[row.name]
            cells = [f"{row.name}: {other['library']}", f"{row.macs / 1e6:.2f}"]
            cells += [str(other[part]) for part in ("forward", "dx", "dw", "rest", "step")]
            cells += [f"{other['step'] * 1e6 / row.macs:.2f}", ""]
            yield f"| {' | '.join(cells)} | {other['flash_bytes']:,} B | {other['ram_bytes']:,} B |"


def document(rows: list[Row], whole: list[StepRow]) -> Iterator[str]:
    """docs/kernels.md."""
    yield "# Kernels"
    yield ""
    yield "Made by `make kernels`: instructions that QEMU's Cortex-M4 (STM32F405) retires in one"
    yield "call of each kernel, counted exactly; flags and runtime are those of the firmware (-O3)."
    yield "Not cycles. *Plain C* is benchmarks/naive.c, which writes the same bytes. The last two"
    yield f"are others. {json.loads(REFERENCES.read_text())['source']}"
    yield ""
    yield from lines(rows)
    yield ""
    yield "`make kernels-check` fails where a count is over 2 % above benchmarks/kernels.json."
    yield ""
    yield "## Whole training steps"
    yield ""
    yield "Batch 1, plain SGD, the second step of a run; millions of instructions. RAM: the"
    yield "firmware's data and the stack that was used. Code: kernels and listings."
    yield ""
    yield from step_lines(whole)
    yield ""


def regressions(rows: list[Row], whole: list[StepRow]) -> list[str]:
    """One line for each count that is over 2 % above the record, and each layer not exact."""
    recorded = json.loads(RECORD.read_text())
    before = {entry["name"]: entry["instructions"] for entry in recorded["layers"]}
    before |= {entry["name"]: entry["step"] for entry in recorded["steps"]}
    counts = {row.name: row.instructions for row in rows} | {row.name: row.step for row in whole}
    found = [f"{row.name}: not the bytes of benchmarks/naive.c" for row in rows if not row.exact]
    for name, count in counts.items():
        if name not in before:
            found.append(f"{name}: not recorded; run `make kernels`")
        elif count > before[name] * ALLOWED:
            change = 100 * (count / before[name] - 1)
            counted = f"{count:,} instructions, recorded {before[name]:,} (+{change:.1f} %)"
            found.append(f"{name}: {counted}")
    return found


def record(rows: list[Row], whole: list[StepRow]) -> None:
    """Writes benchmarks/kernels.json and docs/kernels.md; steps not measured now are kept."""
    measured = [asdict(row) for row in whole]
    names = [row.name for row in whole]
    if RECORD.exists():
        old = json.loads(RECORD.read_text()).get("steps", [])
        measured += [entry for entry in old if entry["name"] not in names]
    text = json.dumps({"layers": [asdict(row) for row in rows], "steps": measured}, indent=1)
    RECORD.write_text(text + "\n", encoding="utf-8")
    kept = [StepRow(**entry) for entry in measured]
    DOCUMENT.write_text("\n".join(document(rows, kept)), encoding="utf-8")


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-k", default="", metavar="TEXT", help="only what has TEXT in its name")
    parser.add_argument("--board", default=BOARD, help="layers on another core; no writing")
    parser.add_argument("--check", action="store_true", help="compare with the record; no writing")
    parser.add_argument("--no-naive", action="store_true", help="leave out the plain C")
    parser.add_argument("--no-steps", action="store_true", help="leave out whole steps")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    names = [name for name in tasks() if arguments.k in name]
    elsewhere = arguments.board != BOARD
    chosen = (
        [] if arguments.no_steps or elsewhere else [name for name in steps() if arguments.k in name]
    )
    if not names and not chosen:
        sys.exit(f"-k {arguments.k}: no such name; there are {', '.join([*tasks(), *steps()])}")
    rows = (
        list(measure(names, arguments.jobs, naive=not arguments.no_naive, board=arguments.board))
        if names
        else []
    )
    if rows:
        print("\n".join(lines(rows)), flush=True)
    whole = [steps()[name]() for name in chosen]
    if whole:
        print("\n".join(step_lines(whole)))
    if arguments.check:
        problems = regressions(rows, whole)
        print("\n".join(problems) or f"no count is over {ALLOWED - 1:.0%} above its record")
        return 1 if problems else 0
    if not arguments.k and not arguments.no_naive and not elsewhere:
        record(rows, whole)
    return 0


if __name__ == "__main__":
    sys.exit(main())
