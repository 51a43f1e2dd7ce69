"""The verb `ondevice train`."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ondevice import options as opt
from ondevice.config import Config, Overrides
from ondevice.dashboard.choice import wants_dashboard
from ondevice.dashboard.live import Dashboard
from ondevice.dashboard.recorded_events import RecordedEvents
from ondevice.dashboard.state import facts_of
from ondevice.display import TrainingDisplay
from ondevice.errors import UserError
from ondevice.events import Event
from ondevice.interrupt import EXIT_CODE, StopOnInterrupt
from ondevice.json_lines import JsonLines
from ondevice.options import INPUT, with_settings
from ondevice.recorded_run import RecordedRun, load_recorded_run
from ondevice.report import summary_table
from ondevice.session import Prepared, prepare, train_once
from ondevice.settings import load_settings
from ondevice.sources import compiled_preprocessing
from ondevice.target import target_board
from ondevice.terminal import text_console

_ALLOWED_WITH_RESUME = {"device.port", "device.reconnect_s"}


@with_settings(*INPUT, "device", "training", "output")
def train(
    overrides: Overrides,
    checkpoint: opt.CheckpointOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            help="Go on with an interrupted run, runs/DATE-NAME: where its board is, else from the "
            "newest checkpoint of the board or the folder",
        ),
    ] = None,
    config: opt.ConfigOption = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Lines instead of the dashboard, as where no terminal is."),
    ] = False,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Train on the device: compile, build, start, evaluate, train, evaluate."""
    recorded = None
    if resume is None:
        settings = load_settings(config, overrides)
    else:
        asked = {
            f"{section}.{key}": value
            for section, values in overrides.items()
            for key, value in values.items()
            if value is not None
        }
        if asked.keys() - _ALLOWED_WITH_RESUME or config is not None or checkpoint is not None:
            raise typer.BadParameter(
                "--resume keeps the settings of its run; beside it go only --port, --reconnect-s, "
                "--plain, --json and --build-dir"
            )
        recorded = load_recorded_run(resume)
        settings = _on_the_same_board(recorded, overrides["device"])
    console = text_console(as_json)
    lines = JsonLines(sys.stdout) if as_json else None
    given = compiled_preprocessing(recorded.path) if recorded is not None else None
    prepared = prepare(settings, build_dir, console.print, preprocessing=given)
    shown = _display(console, prepared, recorded, plain or as_json)
    stop = StopOnInterrupt(
        lambda: shown.say("Stopping after this step; Ctrl-C again ends at once.")
    )
    with shown as display, stop:

        def on_event(event: Event) -> None:
            display.on_event(event)
            if lines is not None:
                lines.on_event(event)

        result = train_once(
            settings,
            prepared,
            build_dir,
            on_event,
            stop.requested,
            display.say,
            checkpoint,
            recorded,
        )
    console.print(summary_table(result.summary))
    if lines is not None:
        lines.write({"event": "summary", **result.summary, "run": str(result.folder)})
    if result.interrupted:
        console.print(
            f"Interrupted; the parameters so far are in {result.checkpoint}; "
            f"go on with `ondevice train --resume {result.folder}`"
        )
        raise typer.Exit(EXIT_CODE)
    console.print(f"Results are in {result.folder}")


def _display(
    console: Console, prepared: Prepared, recorded: RecordedRun | None, plain: bool
) -> Dashboard | TrainingDisplay:
    """The dashboard where there is a terminal for it, else lines."""
    if not wants_dashboard(console, os.environ, plain):
        return TrainingDisplay(console)
    board = prepared.board
    limited = board is not None and board.run != "host"
    facts = facts_of(
        prepared.model.manifest,
        board_ram_bytes=board.ram_bytes if board is not None and limited else 0,
        clock_hz=board.clock_hz if board is not None else 0,
    )
    earlier = RecordedEvents(recorded.path / "metrics.jsonl").new() if recorded is not None else ()
    return Dashboard(console, facts, tuple(earlier))


def _on_the_same_board(recorded: RecordedRun, link: Mapping[str, object]) -> Config:
    """Returns the settings of the run, with another way to its board where one is given.

    Raises:
        UserError: A simulated board has no port.
    """
    before = recorded.config.device
    board = target_board(before, connect=False)
    if link["port"] is not None and board is not None and board.run != "serial":
        raise UserError(f"{recorded.path}: its board {board.name} is simulated; leave out --port")
    given: dict[str, Any] = {key: value for key, value in link.items() if value is not None}
    # Never flashed, which would end the very run that goes on.
    return replace(recorded.config, device=replace(before, flash=False, **given))
