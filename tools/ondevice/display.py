"""A run for human eyes: live progress on a terminal, a few plain lines elsewhere."""

from collections.abc import Callable
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ondevice.events import (
    BoardCheckpoint,
    Ended,
    Evaluated,
    Event,
    LinkLost,
    RolledBack,
    Started,
    StepTrained,
    WentOn,
)

PLAIN_LINES = 10  # progress lines of a whole run where there is no terminal
RUNNING_WINDOW = 50  # samples in the running loss and accuracy


def format_bytes(count: int) -> str:
    """Returns a size as 1,234 B or 12.3 KB (1 KB = 1024 B)."""
    return f"{count:,} B" if count < 10_000 else f"{count / 1024:,.1f} KB"


def format_evaluation(event: Evaluated) -> str:
    """Returns a measurement in words."""
    if event.accuracy is None:
        return f"loss {event.loss:.4f} over {event.samples} held-out samples"
    return (
        f"accuracy {100 * event.accuracy:.1f} % "
        f"({event.correct} of {event.samples} held-out samples), loss {event.loss:.3f}"
    )


_MOMENTS = {"before": "Before training", "epoch": "So far", "after": "After training"}
_ORIGINS = {
    "board": "with what the board holds",
    "host": "with the parameters of the last checkpoint, uploaded",
    "start": "from the start",
}


def sentence(event: Event) -> str:
    """Returns an event as one line; empty for what is not worth one: steps, telemetry, the end."""
    if isinstance(event, Started):
        return (
            f"Training {event.model} ({event.dtype}, update {event.scheme}) on {event.board}: "
            f"{event.total_steps} steps over {event.samples} samples, "
            f"learning rate {event.learning_rate:g}, seed {event.seed}, "
            f"planned RAM {format_bytes(event.planned_ram_bytes)}"
        )
    if isinstance(event, Evaluated):
        return f"{_MOMENTS[event.moment]}: {format_evaluation(event)}"
    if isinstance(event, LinkLost):
        once = event.attempt == 1
        what = f"Step {event.step}: {event.error}" if once else f"Still no link: {event.error}"
        return f"{what}; trying again in {event.wait_s:g} s (attempt {event.attempt})"
    if isinstance(event, WentOn):
        line = f"Going on after step {event.step} {_ORIGINS[event.origin]}"
        if event.step < event.previous_step:
            line += f"; {event.previous_step - event.step} steps are trained again"
        elif event.step > event.previous_step:
            line += f"; the result of {event.step - event.previous_step} is not known"
        return line
    if isinstance(event, RolledBack):
        return (
            f"Step {event.diverged_step}: {event.reason}; back to step {event.step}, learning "
            f"rate times {event.rate_scale:g} from now on (rollback {event.rollbacks})"
        )
    if isinstance(event, BoardCheckpoint) and event.error:
        return f"Step {event.step}: no more checkpoints on the board: {event.error}"
    return ""


class TrainingDisplay:
    """Shows events plainly; use as a context so that the terminal is left in order.

    Args:
        console: Where to write; live progress if it is a terminal.
        clock: Seconds, monotonic; for the rate.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = monotonic) -> None:
        self._console = console
        self._clock = clock
        self._progress: Progress | None = None
        self._started: Started | None = None
        self._begun_s = 0.0
        self._seen = 0  # steps by this process, which may not have begun the run
        self._loss = 0.0
        self._accuracy = 0.0
        self._shown_s = float("-inf")

    def __enter__(self) -> "TrainingDisplay":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def on_event(self, event: Event) -> None:
        """Shows one event."""
        if isinstance(event, StepTrained):
            self._step(event)
            return
        if line := sentence(event):
            self._console.print(line)
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Ended):
            self._stop()

    def say(self, line: str) -> None:
        """Shows a line that is no event."""
        self._console.print(line)

    def _start(self, event: Started) -> None:
        self._started = event
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("training"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._progress.add_task("training", total=event.total_steps, figures="")
            self._progress.start()

    def _step(self, event: StepTrained) -> None:
        now = self._clock()
        if self._seen == 0:
            self._begun_s = now
        self._seen += 1
        weight = 1.0 / min(self._seen, RUNNING_WINDOW)
        self._loss += weight * (event.loss - self._loss)
        self._accuracy += weight * (event.correct - self._accuracy)
        assert self._started is not None  # Started is always the first event
        total = self._started.total_steps
        if self._progress is not None:
            # Rich redraws ten times a second; formatting each step would slow a fast board.
            if now - self._shown_s >= 0.1 or event.step == total:
                self._shown_s = now
                task = self._progress.task_ids[0]
                self._progress.update(task, completed=event.step, figures=self._figures(event, now))
        elif event.step * PLAIN_LINES // total > (event.step - 1) * PLAIN_LINES // total:
            self._console.print(f"step {event.step}/{total}: {self._figures(event, now)}")

    def _figures(self, event: StepTrained, now: float) -> str:
        assert self._started is not None
        parts = [f"loss {self._loss:.3f}", f"accuracy {100 * self._accuracy:.0f} %"]
        if now > self._begun_s and self._seen > 1:
            parts.append(f"{(self._seen - 1) / (now - self._begun_s):.0f} samples/s")
        if event.count is not None:
            parts.append(f"{event.count:,} {self._started.counter}/step")
        parts.append(f"RAM {format_bytes(self._started.planned_ram_bytes)}")
        return ", ".join(parts)

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
