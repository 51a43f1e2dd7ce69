"""The verb `ondevice train`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ondevice import options as opt
from ondevice.config import Config, load_config
from ondevice.display import TrainingDisplay
from ondevice.errors import UserError
from ondevice.events import Event
from ondevice.interrupt import EXIT_CODE, StopOnInterrupt
from ondevice.json_lines import JsonLines
from ondevice.model_options import Section, with_model_options
from ondevice.recorded_run import RecordedRun, load_recorded_run
from ondevice.report import summary_table
from ondevice.session import prepare, train_once
from ondevice.target import target_board
from ondevice.terminal import text_console

_ALLOWED_WITH_RESUME = "--port, --reconnect-s, --json and --build-dir"


@with_model_options
def train(
    model: Section,
    data: opt.DataOption = None,
    calibration: opt.CalibrationOption = None,
    board: opt.BoardOption = None,
    port: opt.PortOption = None,
    flash: opt.FlashOption = None,
    flash_file: opt.FlashFileOption = None,
    key: opt.KeyOption = None,
    allow_export: opt.AllowExportOption = None,
    reconnect_s: opt.ReconnectOption = None,
    steps: opt.StepsOption = None,
    epochs: opt.EpochsOption = None,
    learning_rate: opt.LearningRateOption = None,
    schedule: opt.ScheduleOption = None,
    warmup_steps: opt.WarmupOption = None,
    step_every: opt.StepEveryOption = None,
    step_factor: opt.StepFactorOption = None,
    seed: opt.SeedOption = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints (default: an epoch)")
    ] = None,
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
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder of run folders (default: runs)")
    ] = None,
    run_name: Annotated[
        str | None, typer.Option(help="Run folder is DATE-NAME (default: the model's name)")
    ] = None,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Train on the device: compile, build, start, evaluate, train, evaluate."""
    if steps is not None and epochs is not None:
        raise typer.BadParameter("--steps and --epochs exclude each other")
    asked: dict[str, Section] = {
        "model": model,
        "data": {"file": data, "calibration": calibration},
        "device": {
            "board": board,
            "flash": flash,
            "flash_file": flash_file,
            "key_file": key,
            "allow_export": allow_export,
        },
        "training": {
            "steps": steps,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "learning_rate_schedule": schedule,
            "warmup_steps": warmup_steps,
            "learning_rate_step_every": step_every,
            "learning_rate_step_factor": step_factor,
            "seed": seed,
            "checkpoint_every_steps": checkpoint_every,
        },
        "output": {"directory": output, "name": run_name},
    }
    link: Section = {"port": port, "reconnect_s": reconnect_s}
    recorded = None
    if resume is None:
        settings = load_config(config, {**asked, "device": {**asked["device"], **link}})
    else:
        given = [value for section in asked.values() for value in section.values()]
        if any(value is not None for value in (*given, config, checkpoint)):
            raise typer.BadParameter(
                f"--resume keeps the settings of its run; beside it go only {_ALLOWED_WITH_RESUME}"
            )
        recorded = load_recorded_run(resume)
        settings = _on_the_same_board(recorded, port, reconnect_s)
    console = text_console(as_json)
    lines = JsonLines(sys.stdout) if as_json else None
    prepared = prepare(settings, build_dir, console.print)
    stop = StopOnInterrupt(
        lambda: console.print("Stopping after this step; Ctrl-C again ends at once.")
    )
    with TrainingDisplay(console) as display, stop:

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
            console.print,
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


def _on_the_same_board(
    recorded: RecordedRun, port: str | None, reconnect_s: float | None
) -> Config:
    """Returns the settings of the run, with another way to its board where one is given.

    Raises:
        UserError: A simulated board has no port.
    """
    before = recorded.config.device
    board = target_board(before, connect=False)
    if port is not None and board is not None and board.run != "serial":
        raise UserError(f"{recorded.path}: its board {board.name} is simulated; leave out --port")
    device = replace(
        before,
        port=port if port is not None else before.port,
        reconnect_s=reconnect_s if reconnect_s is not None else before.reconnect_s,
        flash=False,  # which would end the very run that goes on
    )
    return replace(recorded.config, device=device)
