"""The verb `ondevice check`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ondevice import options as opt
from ondevice.check.examine import examine
from ondevice.check.findings import RUNTIME_RAM_BYTES, BoardRoom, Need, Report
from ondevice.config import Overrides
from ondevice.display import format_bytes
from ondevice.options import INPUT, with_settings
from ondevice.settings import load_settings
from ondevice.terminal import text_console

BAR_CELLS = 30


@with_settings(*INPUT, "device.board", "training")
def check(
    overrides: Overrides,
    config: opt.ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Check model, data and board together, with RAM and flash; nothing is built.

    Exit code 1 where a training with these settings would not begin.
    """
    console = text_console(as_json)
    report = examine(load_settings(config, overrides), build_dir)
    if as_json:
        print(json.dumps({"event": "check", "ok": not report.errors, **asdict(report)}))
    else:
        _show(console, report)
    if report.errors:
        raise typer.Exit(1)


def _show(console: Console, report: Report) -> None:
    shape = f"takes {list(report.input_shape)}" if report.input_shape is not None else ""
    outputs = f", gives {report.outputs}" if report.outputs is not None else ""
    console.print(f"Model: {report.model} {shape}{outputs}", highlight=False)
    if report.data:
        console.print(report.data, highlight=False)
    if report.need is not None:
        console.print(
            f"Training: update {report.need.scheme}, {report.steps:,} steps of "
            f"{report.need.macs:,} multiply-accumulates; {report.sample_bytes:,} B over the link "
            "for each",
            highlight=False,
        )
        if report.room is not None:
            console.print(_budget(report.need, report.room))
    for finding in report.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        console.print(Text.assemble((finding.severity, colour), f": {finding.what}"))
    if report.schemes:
        fitting = (f"--scheme {n.scheme} ({n.memory.ram_bytes:,} B)" for n in report.schemes)
        console.print(f"Would fit: {', '.join(fitting)}", highlight=False)
    if report.boards:
        console.print(f"Would fit on: {', '.join(report.boards)}", highlight=False)
    if not report.findings:
        console.print("Nothing is wrong; `ondevice train` with the same options trains it.")
    elif not report.errors:
        console.print("Nothing that keeps it from training.")


def _budget(need: Need, room: BoardRoom) -> Table:
    memory = need.memory
    table = Table("RAM", "bytes", title=f"{room.name}, planned")
    table.columns[1].justify = "right"
    rows = (
        ("activations and gradients (arena)", memory.arena_bytes),
        ("trained parameters", memory.parameter_bytes),
        ("optimiser state", memory.state_bytes),
        ("gradient scales, label, output", memory.scale_bytes + memory.io_bytes),
        ("runtime and link, about", RUNTIME_RAM_BYTES),
        ("stack, reserved", room.stack_bytes),
    )
    for name, count in rows:
        if count:
            table.add_row(name, f"{count:,}")
    table.add_section()
    total = room.ram_needed(need)
    table.add_row("in all", f"{total:,}{_of(room.ram_bytes)}")
    if room.ram_bytes is not None:
        table.add_row("", _bar(total, room.ram_bytes))
    beside = "" if room.flash_bytes is None else ", beside the code"
    table.add_row("flash: weights", f"{need.const_bytes:,}{_of(room.flash_bytes)}{beside}")
    return table


def _bar(used: int, limit: int) -> Text:
    cells = min(BAR_CELLS, -(-used * BAR_CELLS // limit))
    colour = "red" if used > limit else "green"
    return Text.assemble(("█" * cells, colour), ("░" * (BAR_CELLS - cells), "dim"))


def _of(limit: int | None) -> str:
    return "" if limit is None else f" of {format_bytes(limit)}"
