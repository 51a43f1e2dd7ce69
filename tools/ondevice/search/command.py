"""The verb `ondevice search`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ondevice import options as opt
from ondevice.config import Config, Overrides
from ondevice.data import Dataset, load_dataset, make_dataset
from ondevice.interrupt import EXIT_CODE, StopOnInterrupt
from ondevice.json_lines import JsonLines
from ondevice.options import INPUT, with_settings
from ondevice.search.display import SearchDisplay
from ondevice.search.events import SearchEvent, search_record
from ondevice.search.quantity import parse_bytes, parse_macs
from ondevice.settings import load_settings
from ondevice.sources import Sources, load_sources
from ondevice.terminal import text_console

if TYPE_CHECKING:
    from ondevice.search.run import SearchResult, SearchSettings

LEARNING_RATES = (0.003, 0.01, 0.03)


@with_settings(
    *INPUT,
    "device.board",
    "training.steps",
    "training.epochs",
    "training.seed",
    without=("data.file",),
)
def search(
    overrides: Overrides,
    ram: Annotated[
        str, typer.Option(help="RAM of the model's buffers and the stack: 96K, 96KB or 98304")
    ],
    macs: Annotated[
        str | None,
        typer.Option(help="Multiply-accumulates of a training step: 2M (default: any number)"),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help=".npz file with x, y, x_test, y_test; may be given several times, accuracies are "
            "averaged (default: the demo's five unseen wearers)",
        ),
    ] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(
            "--lr",
            min=0.0,
            help="May be given several times: each scheme gets the best on validation data "
            f"(default: {', '.join(map(str, LEARNING_RATES))})",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training runs to average over")] = 2,
    finalists: Annotated[
        int, typer.Option(min=1, help="Budgets, --ram and smaller ones, whose best is trained")
    ] = 3,
    population: Annotated[int, typer.Option(min=4, help="Of the evolution")] = 64,
    generations: Annotated[int, typer.Option(min=1, help="Of the evolution")] = 100,
    config: opt.ConfigOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Folder of runs and results (default: runs/search-MODEL)"),
    ] = None,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Find the update scheme that gains most accuracy within a RAM budget.

    Trains with the device's code on the host. Stopped by Ctrl-C, the same command goes on where it
    was.
    """
    # They import TVM, which takes seconds; other verbs do not wait for it.
    from ondevice.search.bench import Protocol, SearchInterrupted
    from ondevice.search.evolution import EvolutionSettings, Limits
    from ondevice.search.report import results_record
    from ondevice.search.run import LOG_NAME, SearchSettings, run_search

    limits = Limits(parse_bytes(ram), None if macs is None else parse_macs(macs))
    first_file = {"file": data[0] if data else None}
    settings = load_settings(config, {**overrides, "data": {**overrides["data"], **first_file}})
    sources = load_sources(settings)
    rates = tuple(sorted(set(learning_rate))) if learning_rate else LEARNING_RATES
    first = settings.training.seed
    protocol = Protocol(settings.training, rates, tuple(range(first, first + seeds)))
    wanted = SearchSettings(
        limits,
        protocol,
        EvolutionSettings(population, generations, seed=first),
        finalists,
        output if output is not None else Path("runs") / f"search-{sources.model.stem}",
    )
    console = text_console(as_json)
    lines = JsonLines(sys.stdout) if as_json else None
    stop = StopOnInterrupt(
        lambda: console.print("Stopping after this step; Ctrl-C again ends at once.")
    )
    with SearchDisplay(console) as display, stop:

        def on_event(event: SearchEvent) -> None:
            display.on_event(event)
            if lines is not None:
                lines.write(search_record(event))

        try:
            result = run_search(
                settings,
                sources,
                _data_sets(settings, sources, (data or [])[1:]),
                wanted,
                build_dir,
                console.print,
                on_event,
                stop.requested,
            )
        except SearchInterrupted:
            console.print(
                f"Interrupted; finished runs are in {wanted.folder / LOG_NAME}. "
                "Give the same command again to go on."
            )
            raise typer.Exit(EXIT_CODE) from None
    _show(console, result, wanted)
    if lines is not None:
        record = results_record(
            result.space, result.contributions, result.rows, result.best, wanted.limits
        )
        lines.write({"event": "result", **record, "scheme_file": str(result.scheme_file)})


def _data_sets(config: Config, sources: Sources, more: list[Path]) -> list[Dataset]:
    """What was given, or every unseen wearer of the demo."""
    if config.data.file is not None:
        return [sources.data, *(load_dataset(path) for path in more)]
    from ondevice.demo import UNSEEN_PEOPLE, wearer_split

    return [make_dataset(wearer_split(person), f"wearer {person}") for person in UNSEEN_PEOPLE]


def _show(console: Console, result: "SearchResult", settings: "SearchSettings") -> None:
    from ondevice.search.report import comparison_table, contribution_table

    console.print(contribution_table(result.space, result.contributions))
    console.print(comparison_table(result.rows, result.best, settings.limits))
    console.print(f"Results are in {settings.results_folder}")
    console.print(f"Use it: ondevice train --scheme sparse:{result.scheme_file}")
