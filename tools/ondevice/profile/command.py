"""The verb `ondevice profile`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ondevice import options as opt
from ondevice.config import Overrides
from ondevice.errors import UserError
from ondevice.interrupt import StopOnInterrupt
from ondevice.json_lines import JsonLines
from ondevice.link.device import Device
from ondevice.memory_report import check_report_name
from ondevice.options import INPUT, with_settings
from ondevice.profile.estimated import check_board, run_estimated
from ondevice.profile.measure import Measurement, measure, no_counter
from ondevice.profile.picture import write_chart
from ondevice.profile.rows import Group, make_profile
from ondevice.profile.table import profile_table, records
from ondevice.session import prepare
from ondevice.settings import load_settings
from ondevice.target import open_target, target_board
from ondevice.terminal import text_console

TEXT_WIDTH = 120  # columns where there is no terminal


@with_settings(
    *INPUT,
    "device.board",
    "device.port",
    "device.key_file",
    "device.flash",
    "training.learning_rate",
    "training.seed",
)
def profile(
    overrides: Overrides,
    steps: Annotated[int, typer.Option(min=1, help="Training steps to average over")] = 3,
    group: Annotated[Group, typer.Option(help="What a row is")] = "op",
    report: Annotated[
        Path | None, typer.Option(help="Draw a bar chart: FILE.html or FILE.svg")
    ] = None,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Simulated Cortex-M4 or M7: estimate cycles from the instructions"
        ),
    ] = False,
    config: opt.ConfigOption = None,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Show where a training step's instructions (simulated) or cycles (real board) go."""
    settings = load_settings(config, overrides)
    if report is not None:
        check_report_name(report)
    target = target_board(settings.device)
    if target is not None and target.counter == "none":
        raise UserError(no_counter(target.name))
    if estimate:
        check_board(target)
    console = text_console(as_json, TEXT_WIDTH)
    prepared = prepare(settings, build_dir, console.print)
    manifest = prepared.model.manifest
    console.print(f"Starting {target.name if target is not None else settings.device.port} ...")
    with StopOnInterrupt() as stop:

        def run(device: Device) -> Measurement:
            data, training = prepared.sources.data, settings.training
            return measure(device, manifest, data, training, steps, stop.requested)

        if estimate:
            assert target is not None  # a real board is refused above
            measured, estimated = run_estimated(target, prepared.model, build_dir, run)
        else:
            opened = open_target(settings.device, target, prepared.model, build_dir)
            with opened.device as device:
                measured, estimated = run(device), None
    result = make_profile(measured, manifest["ops"], group, estimated)
    facts = {
        "model": manifest["name"],
        "dtype": manifest["dtype"],
        "scheme": manifest["scheme"]["name"],
    }
    title = (
        f"{facts['model']} ({facts['dtype']}, update {facts['scheme']}) on {measured.board}: "
        f"{measured.unit} of a training step, mean of {measured.steps}"
    )
    if as_json:
        lines = JsonLines(sys.stdout)
        for record in records(result, facts):
            lines.write(record)
    console.print(profile_table(result, title))
    if report is not None:
        write_chart(report, result, title)
        console.print(f"Bar chart: {report}")
