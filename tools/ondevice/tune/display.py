"""A tuning run for human eyes: a bar, and what was gained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from ondevice.terminal import progress_bar
from ondevice.tune.run import Trial, TuneOutcome


class TuneDisplay:
    """Shows trials; use as a context so that the terminal is left in order.

    Args:
        console: Where to write; a live bar if it is a terminal.
        total: Trials that are planned.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._progress = progress_bar(console)
        self._bar = self._progress.add_task("Tuning", total=total)

    def __enter__(self) -> TuneDisplay:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def on_trial(self, trial: Trial) -> None:
        """Shows one trial."""
        self._progress.update(self._bar, advance=1, description=trial.task.workload.text)
        if trial.refusal:
            what = f"{trial.task.workload.text}, {trial.tile}"
            self._console.print(f"Refused: {what}: {trial.refusal}")


def outcome_table(outcome: TuneOutcome, unit: str) -> Table:
    """The best of each workload beside the untuned tile."""
    table = Table(title=f"Best of each workload ({unit})")
    for name in ("workload", "measured on", "untuned", "tuned", "gain", "tile", "trials"):
        table.add_column(name)
    for record in outcome_records(outcome):
        untuned, tuned = record["untuned"], record["tuned"]
        gain = f"{100 * (1 - tuned / untuned):.1f} %" if untuned else ""
        tile = " x ".join(map(str, record["tile"]))
        cells = [record["workload"], record["step"], f"{untuned:,}", f"{tuned:,}", gain, tile]
        table.add_row(*cells, str(record["trials"]))
    return table


def outcome_records(outcome: TuneOutcome) -> Iterator[Mapping[str, Any]]:
    """One record a workload."""
    for best in outcome.best():
        trials = outcome.trials[best.task.workload.text]
        yield {
            "workload": best.task.workload.text,
            "step": best.task.task.name,
            "untuned": trials[0].count or 0,
            "tuned": best.count,
            "tile": [best.tile.pixels, best.tile.channels, best.tile.unroll],
            "trials": len(trials),
        }
