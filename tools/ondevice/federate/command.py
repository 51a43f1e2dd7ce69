"""The verbs `ondevice federate ...`: boards that learn together."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ondevice import options as opt
from ondevice.config import Overrides
from ondevice.federate.round_display import RoundDisplay
from ondevice.federate.round_events import FederationEvent, record_of
from ondevice.interrupt import EXIT_CODE
from ondevice.json_lines import JsonLines
from ondevice.options import INPUT, with_settings
from ondevice.settings import load_settings
from ondevice.terminal import text_console

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Boards that learn together (Flower); only changes of trained weights leave them.",
)


@app.command(
    epilog="Examples:\n\n"
    "  ondevice federate run\n\n"
    "  ondevice federate run --boards 'qemu_f405*4,host*4' --compress topk --rounds 30\n\n"
    "  ondevice federate run --resume runs/20260101-120000-watch"
)
@with_settings(
    *INPUT,
    "device.board",
    "training",
    "federate",
    "output",
    without=(
        "training.steps",
        "training.epochs",
        "training.evaluate_each_epoch",
        "training.checkpoint_every_steps",
        "output.tensorboard",
        "output.mlflow",
    ),
)
def run(
    overrides: Overrides,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", help="Go on with the run of this folder after its last round"),
    ] = None,
    config: opt.ConfigOption = None,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Federate a simulated fleet: compile, build, then rounds of local training and averaging."""
    from ondevice.federate.run import resumed_config, run_federation

    if resume is not None:
        if config is not None or any(v is not None for s in overrides.values() for v in s.values()):
            raise typer.BadParameter("--resume keeps the settings of its run")
        settings = resumed_config(resume)
    else:
        settings = load_settings(config, overrides)
    console = text_console(as_json)
    display = RoundDisplay(console.print)
    lines = JsonLines(sys.stdout) if as_json else None

    def on_event(event: FederationEvent) -> None:
        display.on_event(event)
        if lines is not None:
            lines.write(record_of(event))

    try:
        result = run_federation(settings, build_dir, on_event, console.print, resume)
    except KeyboardInterrupt:
        console.print("Interrupted; go on with `ondevice federate run --resume` and the run folder")
        raise typer.Exit(EXIT_CODE) from None
    if lines is not None:
        lines.write({"event": "summary", **result.summary, "run": str(result.folder)})
    console.print(f"Results are in {result.folder}")
