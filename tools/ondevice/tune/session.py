"""One tuning of a model, from settings to the database: what `ondevice tune` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ondevice.boards import Board
from ondevice.compiled_model import analyse_model, compile_options
from ondevice.config import Config
from ondevice.errors import UserError
from ondevice.search.trial_log import TrialLog
from ondevice.sources import Sources, compile_request
from ondevice.target import real_port
from ondevice.tune.display import TuneDisplay, outcome_records, outcome_table
from ondevice.tune.plot import write_best_so_far
from ondevice.tune.real_board import RealBoard
from ondevice.tune.run import Runner, TuneOutcome, TuneSettings, tune
from ondevice.tune.simulators import Simulators
from ondevice.tune.tasks import TuningTask, tuning_tasks
from ondevice.tune.tracker import TrackedWorkers
from ondevice_compiler.compile import plan_scheme
from ondevice_compiler.tiling.database import Entry, chooser, read_database, write_database

LOG_NAME, PLOT_NAME = "trials.jsonl", "best-so-far.svg"
GUIDED, RANDOM = "cost model", "random"


@dataclass(frozen=True)
class TuneRequest:
    """What is asked for.

    Attributes:
        trials: Of each workload.
        guided: With the cost model.
        compare: Also the other way, for the plot.
        seed: Of the searches.
        jobs: Simulators side by side.
        tracker: "HOST:PORT", or None: measure here.
        database: Where the best tiles go.
        output: Folder of trial log and plot.
    """

    trials: int
    guided: bool
    compare: bool
    seed: int
    jobs: int
    tracker: str | None
    database: Path
    output: Path


@dataclass(frozen=True)
class TuneReport:
    """What a tuning gave.

    Attributes:
        records: One a workload, see `outcome_records`.
        interrupted: It was stopped.
    """

    records: Sequence[Mapping[str, Any]]
    interrupted: bool


def tune_model(
    config: Config,
    sources: Sources,
    board: Board | None,
    request: TuneRequest,
    build_root: Path,
    console: Console,
    should_stop: Callable[[], bool],
) -> TuneReport:
    """Tunes all kernels of a model's training step, writes database and plot.

    Args:
        config: Model and board.
        sources: The model's file and calibration samples.
        board: A real one measures; a simulated one stands for its CPU.
        request: Effort and places.
        build_root: Where calibrations are kept.
        console: For the person.
        should_stop: Asked between batches.

    Raises:
        UserError: The model cannot be compiled, or nothing can measure.
    """
    if sources.model.is_dir():
        raise UserError(f"{sources.model} is compiled already: give --model the model's file")
    known = read_database(request.database) if request.database.exists() else {}
    console.print(f"Planning {sources.model} ...")
    compiling = compile_request(config, sources, build_root)
    planned = plan_scheme(analyse_model(compiling), compile_options(compiling))
    tasks = tuning_tasks([planned.program], known)
    space = sum(len(task.tiles) for task in tasks)
    console.print(f"{len(tasks)} workloads with {space} tiles; at most {request.trials} each")
    request.output.mkdir(parents=True, exist_ok=True)
    with _runner(board, config, request) as runner, TrialLog(request.output / LOG_NAME) as log:
        outcomes = search_tiles(tasks, runner, log, request, chooser(known), console, should_stop)
    main = next(iter(outcomes.values()))
    remember(request.database, known, main, runner.unit)
    console.print(outcome_table(main, runner.unit))
    plot = request.output / PLOT_NAME
    write_best_so_far(plot, outcomes, f"{sources.model.stem}: {len(tasks)} workloads", runner.unit)
    console.print(f"The database is {request.database}, the plot {plot}")
    console.print(f"Use it: ondevice train --tuning {request.database}")
    interrupted = any(outcome.interrupted for outcome in outcomes.values())
    return TuneReport(list(outcome_records(main)), interrupted)


def search_tiles(
    tasks: Sequence[TuningTask],
    runner: Runner,
    log: TrialLog,
    request: TuneRequest,
    others: Any,
    console: Console,
    should_stop: Callable[[], bool],
) -> dict[str, TuneOutcome]:
    """The search that was asked for, and the other one where both are to be compared."""
    ways = [request.guided, *([not request.guided] if request.compare else [])]
    total = len(ways) * sum(min(request.trials, len(task.tiles)) for task in tasks)
    settings = TuneSettings(trials=request.trials, seed=request.seed)
    outcomes = {}
    with TuneDisplay(console, total) as display:
        for guided in ways:
            way = replace(settings, guided=guided)
            outcome = tune(tasks, runner, log, way, display.on_trial, should_stop, others)
            outcomes[GUIDED if guided else RANDOM] = outcome
            if outcome.interrupted:
                break
    return outcomes


def remember(path: Path, known: Mapping[str, Entry], outcome: TuneOutcome, unit: str) -> None:
    """Adds the best tiles to the database."""
    found = {
        best.task.workload.text: Entry(best.task.workload.text, best.tile, best.count, unit)
        for best in outcome.best()
        if best.count is not None
    }
    write_database(path, {**known, **found}.values())


@contextmanager
def _runner(board: Board | None, config: Config, request: TuneRequest) -> Iterator[Runner]:
    with ExitStack() as stack:
        if request.tracker is not None:
            yield TrackedWorkers(request.tracker)
        elif board is not None and board.run == "serial":
            yield stack.enter_context(RealBoard(board, real_port(config.device, board)))
        else:
            yield stack.enter_context(Simulators(request.jobs))
