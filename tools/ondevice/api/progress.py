"""A run's progress, where somebody looks: a cell of a notebook, or a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from ondevice.events import Ended, Evaluated, Event, Started, StepTrained

REFRESH_S = 0.2

OnEvent = Callable[[Event], None]


@contextmanager
def progress(show: bool) -> Iterator[OnEvent]:
    """Yields what takes each event; it shows nothing where nobody would see it."""
    if show and in_notebook():
        yield _NotebookProgress().on_event
    elif show and sys.stderr.isatty():
        from ondevice.display import TrainingDisplay
        from ondevice.terminal import text_console

        with TrainingDisplay(text_console(stderr=True)) as display:
            yield display.on_event
    else:
        yield lambda event: None


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class _NotebookProgress:
    """One output of the cell, replaced a few times a second."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._output = display(HTML(""), display_id=True)
        self._total, self._shown_s, self._loss = 1, float("-inf"), 0.0
        self._measured: list[str] = []

    def on_event(self, event: Event) -> None:
        if isinstance(event, Started):
            self._total = event.total_steps
        elif isinstance(event, Evaluated):
            accuracy = "" if event.accuracy is None else f"accuracy {100 * event.accuracy:.1f} %, "
            self._measured.append(f"{event.moment} training: {accuracy}loss {event.loss:.4f}")
        elif isinstance(event, StepTrained):
            self._loss = event.loss if event.step == 1 else 0.95 * self._loss + 0.05 * event.loss
            if monotonic() - self._shown_s >= REFRESH_S:
                self._show(event.step)
        elif isinstance(event, Ended):
            self._show(event.step)

    def _show(self, step: int) -> None:
        self._shown_s = monotonic()
        lines = "".join(f"<br>{line}" for line in self._measured)
        bar = f'<progress value="{step}" max="{self._total}"></progress>'
        text = f"{bar} step {step} of {self._total}, running loss {self._loss:.4f}{lines}"
        self._output.update(self._html(text))
