"""A search for human eyes: a bar and what is being measured; a line a scheme."""

from __future__ import annotations

from rich.console import Console

from ondevice.display import format_bytes
from ondevice.search.events import (
    GenerationFinished,
    PhaseStarted,
    RunFinished,
    SchemeMeasured,
    SchemeStarted,
    SearchEvent,
)
from ondevice.terminal import progress_bar

TITLES = {
    "contribution": "Contribution of each parameter",
    "evolution": "Evolutionary search",
    "comparison": "Best candidates beside the common schemes",
}


class SearchDisplay:
    """Shows events; use as a context so that the terminal is left in order.

    Args:
        console: Where to write; a live bar if it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last_best = ""
        self._progress = progress_bar(console)

    def __enter__(self) -> SearchDisplay:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def on_event(self, event: SearchEvent) -> None:
        """Shows one event."""
        if isinstance(event, PhaseStarted):
            for task in self._progress.task_ids:
                self._progress.remove_task(task)
            self._progress.add_task(TITLES[event.phase], total=event.total)
            unit = "generations" if event.phase == "evolution" else "training runs"
            self._console.print(f"{TITLES[event.phase]}: at most {event.total} {unit}")
            return
        task = self._progress.task_ids[0]
        if isinstance(event, SchemeStarted):
            self._progress.update(task, description=f"{event.scheme} ({event.part})")
        elif isinstance(event, RunFinished):
            self._progress.advance(task)
        elif isinstance(event, SchemeMeasured):
            self._console.print(
                f"  {event.scheme}: {100 * event.accuracy:.1f} % on {event.part} data, "
                f"learning rate {event.learning_rate:g}"
            )
        elif isinstance(event, GenerationFinished):
            self._generation(event)

    def _generation(self, event: GenerationFinished) -> None:
        self._progress.update(self._progress.task_ids[0], completed=event.generation)
        if event.scheme != self._last_best:
            self._last_best = event.scheme
            self._console.print(
                f"  generation {event.generation}: {event.scheme}: "
                f"{100 * event.gain:+.1f} points, RAM {format_bytes(event.ram_bytes)}, "
                f"{event.macs:,} MACs"
            )
