"""Tunes the kernels of the demo and of the zoo's networks into the database that is shipped.

make tune
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from adaptation import BUILD, ROOT
from layers import tasks
from rich.console import Console
from steps import CALIBRATION_SAMPLES, DEMO
from zoo import NETWORKS

from ondevice import demo
from ondevice.interrupt import StopOnInterrupt
from ondevice.search.trial_log import TrialLog
from ondevice.tune.display import outcome_table
from ondevice.tune.plot import write_best_so_far
from ondevice.tune.session import GUIDED, LOG_NAME, TuneRequest, remember, search_tiles
from ondevice.tune.simulators import Simulators
from ondevice.tune.tasks import tuning_tasks
from ondevice_compiler import CompileOptions
from ondevice_compiler.compile import analyse, plan_scheme
from ondevice_compiler.program import Program
from ondevice_compiler.tiling.database import SHIPPED, chooser, read_database

PLOT = ROOT / "docs" / "tuning.svg"


def programs() -> Iterator[Program]:
    """The layers and training steps that docs/kernels.md and docs/networks.md show, in int8."""
    yield from (make().program for make in tasks().values())
    x, y = demo.calibration_set()
    for scheme in ("full", f"sparse:{DEMO / 'sparse.toml'}"):
        options = CompileOptions(name="watch", scheme=scheme)
        analysis = analyse(DEMO / "watch.onnx", x[:64], y[:64], options)
        yield plan_scheme(analysis, options).program
    for network in NETWORKS.values():
        if not network.available:
            print(f"{network.name}: {network.model} is not here", file=sys.stderr)
            continue
        x, y = network.samples(CALIBRATION_SAMPLES)
        options = CompileOptions(
            name=network.name, scheme=network.sparse, loss=network.loss, head=network.head
        )
        yield plan_scheme(analyse(network.source(), x, y, options), options).program


def main() -> int:
    """Tunes everything; goes on where it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--compare", action="store_true", help="also at random; draw both")
    arguments = parser.parse_args()
    known = read_database(SHIPPED)
    found = tuning_tasks(programs(), known)
    folder = BUILD / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=140)
    console.print(f"{len(found)} workloads, {sum(len(task.tiles) for task in found)} tiles")
    trials, jobs, compare = arguments.trials, arguments.jobs, arguments.compare
    request = TuneRequest(trials, True, compare, 0, jobs, None, SHIPPED, folder)
    with (
        Simulators(jobs) as simulators,
        TrialLog(folder / LOG_NAME) as log,
        StopOnInterrupt() as stop,
    ):
        outcomes = search_tiles(
            found, simulators, log, request, chooser(known), console, stop.requested
        )
    console.print(outcome_table(outcomes[GUIDED], simulators.unit))
    remember(SHIPPED, known, outcomes[GUIDED], simulators.unit)
    if compare:
        title = f"{len(found)} workloads of the demo and {len(NETWORKS)} networks"
        write_best_so_far(PLOT, outcomes, title, simulators.unit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
