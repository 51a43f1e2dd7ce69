"""The verb `ondevice doctor`: all checks, as a table or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from ondevice.boards import Board, load_board
from ondevice.config import Overrides
from ondevice.doctor.check import Check
from ondevice.doctor.packages import check_python
from ondevice.doctor.programs import check_programs
from ondevice.doctor.real_board import check_access, check_boards, check_flashing
from ondevice.doctor.self_test import run_self_test
from ondevice.options import with_settings
from ondevice.ports import list_ports
from ondevice.settings import load_settings
from ondevice.target import DEFAULT_BOARD
from ondevice.terminal import text_console


@with_settings("device.board")
def doctor(
    overrides: Overrides,
    run: Annotated[
        bool,
        typer.Option(
            "--run",
            help="Also compile, build and train one step; in QEMU, where the board is a real one.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Check everything that a board needs; exit code 1 if something of it is missing."""
    board = load_settings(None, overrides).device.board
    target = load_board(board if board is not None else DEFAULT_BOARD)
    checks = all_checks(target)
    if run:
        checks.append(
            run_self_test(target if target.run != "serial" else load_board(DEFAULT_BOARD))
        )
    states = [check.state(target.run) for check in checks]
    if as_json:
        print(json.dumps(_record(target, checks, states), indent=2))
    else:
        console = text_console(stderr=False, width=120)
        console.print(_table(checks, states))
        missing = [c.name for c, state in zip(checks, states, strict=True) if state == "missing"]
        console.print(
            f"{target.name} misses: {', '.join(missing)}"
            if missing
            else f"{target.name} has all that it needs"
        )
    if "missing" in states:
        raise typer.Exit(1)


def all_checks(board: Board) -> list[Check]:
    """Everything that needs no run."""
    ports = list_ports()
    return [
        *check_python(),
        *check_programs(board),
        *check_flashing(board, ports),
        *check_access(ports),
        *check_boards(board, ports),
    ]


def _table(checks: list[Check], states: list[str]) -> Table:
    table = Table()
    for heading in ("", "what", "state", "found, or how to get it"):
        table.add_column(heading, overflow="fold")
    family = ""
    for check, state in zip(checks, states, strict=True):
        heading = check.family if check.family != family else ""
        family = check.family
        table.add_row(heading, check.name, state, check.text)
    return table


def _record(board: Board, checks: list[Check], states: list[str]) -> dict[str, object]:
    rows = []
    for check, state in zip(checks, states, strict=True):
        row = {**asdict(check), "state": state}
        del row["ok"], row["needed_by"]
        rows.append(row)
    return {"board": board.name, "ok": "missing" not in states, "checks": rows}
