"""The verbs `ondevice tune` and `ondevice tune-worker`."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ondevice import options as opt
from ondevice.config import Overrides
from ondevice.interrupt import EXIT_CODE, StopOnInterrupt
from ondevice.json_lines import JsonLines
from ondevice.options import INPUT, with_settings
from ondevice.settings import load_settings
from ondevice.sources import load_sources
from ondevice.target import target_board
from ondevice.terminal import text_console

TEXT_WIDTH = 140  # columns where there is no terminal

TrackerOption = Annotated[str, typer.Option("--tracker", help="HOST:PORT of TVM's RPC tracker")]


@with_settings(*INPUT, "device.board", "device.port", "training.seed")
def tune(
    overrides: Overrides,
    trials: Annotated[int, typer.Option(min=1, help="Tiles to measure of each workload")] = 24,
    random: Annotated[
        bool, typer.Option("--random", help="Search at random, without the cost model.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Search at random as well, and plot both.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Simulators side by side")] = os.cpu_count() or 1,
    tracker: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of TVM's RPC tracker: measure on its workers instead"),
    ] = None,
    database: Annotated[
        Path, typer.Option(help="Where the best tiles go, beside what it has already")
    ] = Path("tuning.jsonl"),
    output: Annotated[
        Path, typer.Option("--output", help="Folder of the trial log and the plot")
    ] = Path("runs/tune"),
    config: opt.ConfigOption = None,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Find the fastest register tile of every kernel of a model by measuring.

    Counts instructions in QEMU, or cycles on the board of --board and --port. Stopped by Ctrl-C or
    killed, the same command goes on where it was.
    """
    settings = load_settings(config, overrides)
    if tracker is not None and overrides["device"]["board"] is not None:
        raise typer.BadParameter("--tracker and --board exclude each other")
    target = target_board(settings.device)
    sources = load_sources(settings)
    from ondevice.tune.session import TuneRequest, tune_model  # imports TVM

    request = TuneRequest(
        trials, not random, compare, settings.training.seed, jobs, tracker, database, output
    )
    console = text_console(as_json, TEXT_WIDTH)
    stop = StopOnInterrupt(
        lambda: console.print("Stopping after this batch; Ctrl-C again ends at once.")
    )
    with stop:
        report = tune_model(settings, sources, target, request, build_dir, console, stop.requested)
    if as_json:
        lines = JsonLines(sys.stdout)
        for record in report.records:
            lines.write({"event": "tuned", **record})
    if report.interrupted:
        console.print("Interrupted; give the same command again to go on.")
        raise typer.Exit(EXIT_CODE)


def tune_worker(
    tracker: TrackerOption,
    host: Annotated[
        str, typer.Option(help="Address to listen on; clients of the tracker must reach it")
    ] = "127.0.0.1",
) -> None:
    """Measure kernels for `ondevice tune --tracker` of other machines, until Ctrl-C.

    TVM's RPC neither encrypts nor authenticates: only in a network that is trusted.
    """
    from ondevice.tune.tracker import worker

    with worker(tracker, host) as port, StopOnInterrupt() as stop:
        print(f"Measuring for the tracker at {tracker}, on port {port}", flush=True)
        while not stop.requested():
            time.sleep(0.2)
