"""Section "Curves": loss, accuracy and learning rate over the training steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.events import LinkLost, RolledBack
from ondevice.html_report.history import History
from ondevice.html_report.line_chart import LineChart, Mark, Series, line_chart
from ondevice.html_report.numbers import plain

LOG_FROM = 20.0  # factor between the largest and the smallest mean loss
MOST_MARKS = 40


@dataclass(frozen=True)
class Curves:
    """The section.

    Attributes:
        charts: At least one.
        unseen: Steps whose results were lost with the link.
    """

    charts: tuple[LineChart, ...]
    unseen: int


def curves(history: History) -> Curves | None:
    """Draws what is known; None where no step was seen."""
    if not history.trained:
        return None
    last = history.trained[-1].step
    marks = _marks(history)
    charts = [_loss(history, last, marks)]
    if any(e.accuracy is not None for e in history.evaluations) or _classifies(history):
        charts.append(_accuracy(history, last, marks))
    charts.append(_rate(history, last, marks))
    if history.started.counter and len(history.counts):
        charts.append(_counts(history, last, marks))
    return Curves(tuple(charts), last - len(history.trained))


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Returns the mean of each `window` neighbours: [n] to [n - window + 1]."""
    return np.convolve(values, np.full(window, 1.0 / window), "valid")


def _window(history: History) -> int:
    return max(1, len(history.trained) // 20)


def _marks(history: History) -> list[Mark]:
    marks = []
    for event in history.incidents:
        if isinstance(event, RolledBack):
            words = f"step {event.diverged_step}: {event.reason}; back to step {event.step}"
            marks.append(Mark(event.diverged_step, "rollback", words))
        elif isinstance(event, LinkLost) and event.attempt == 1:
            marks.append(Mark(event.step, "link lost", f"step {event.step}: {event.error}"))
    return marks[:MOST_MARKS]


def _classifies(history: History) -> bool:
    return bool(history.manifest["label"]["kind"] == "class")


def _loss(history: History, last: int, marks: list[Mark]) -> LineChart:
    # float32 overflows before training is seen to diverge.
    seen = [(e.step, e.loss) for e in history.trained if np.isfinite(e.loss)]
    steps, losses = np.array(seen or [(0, 0.0)], np.float64).T
    window = min(_window(history), len(losses))
    mean = running_mean(losses, window)
    series = [
        Series("each sample, before its update", steps, losses, "c1", "faint"),
        Series(f"mean of {window} samples", steps[window - 1 :], mean, "c1"),
    ]
    held = [(e.step, e.loss) for e in history.evaluations if np.isfinite(e.loss)]
    if held:
        x, y = np.array(held, np.float64).T
        series.append(Series("held-out samples", x, y, "c2", "points"))
    known = np.concatenate([one.y for one in series[1:]])
    log = bool(known.min() > 0 and known.max() > LOG_FROM * known.min())
    # A few samples have next to no loss: they would stretch the axis to where nothing happens.
    limits = (
        (float(known.min()) / 10, max(float(losses.max()), float(known.max()))) if log else None
    )
    words = f"The mean loss of {window} samples goes from {plain(mean[0])} to {plain(mean[-1])}."
    label = "loss (logarithmic)" if log else "loss"
    return line_chart("loss", "Loss", words, label, series, last, marks, limits, log)


def _accuracy(history: History, last: int, marks: list[Mark]) -> LineChart:
    correct, window = (
        np.array([float(event.correct) for event in history.trained]),
        _window(history),
    )
    mean = 100 * running_mean(correct, window)
    series = [
        Series(
            f"training samples, before their update, mean of {window}",
            history.steps[window - 1 :],
            mean,
            "c1",
        )
    ]
    held = [(e.step, 100 * e.accuracy) for e in history.evaluations if e.accuracy is not None]
    words = f"Of the training samples, {mean[0]:.0f} % are right at first, {mean[-1]:.0f} % at last"
    if held:
        x, y = np.array(held, np.float64).T
        series.append(Series("held-out samples", x, y, "c2", "points"))
        words += f"; of the held-out samples {y[0]:.1f} %, then {y[-1]:.1f} %"
    return line_chart(
        "accuracy", "Accuracy", f"{words}.", "accuracy (%)", series, last, marks, (0.0, 100.0)
    )


def _rate(history: History, last: int, marks: list[Mark]) -> LineChart:
    rates = np.array([event.learning_rate for event in history.trained])
    words = f"The learning rate goes from {plain(rates[0])} to {plain(rates[-1])}."
    series = [Series("learning rate", history.steps, rates, "c3")]
    return line_chart("rate", "Learning rate", words, "learning rate", series, last, marks)


def _counts(history: History, last: int, marks: list[Mark]) -> LineChart:
    unit = history.started.counter
    counted = [(event.step, event.count) for event in history.trained if event.count is not None]
    steps, counts = np.array(counted, np.float64).T
    low, high = float(counts.min()), float(counts.max())
    margin, window = max((high - low) / 10, 1.0), max(1, len(counts) // 20)
    mean = running_mean(counts, window)
    words = f"A step takes {plain(low)} to {plain(high)} {unit}."
    return line_chart(
        "counts",
        f"{unit.capitalize()} a training step",
        words,
        unit,
        [
            Series("each step", steps, counts, "c4", "faint"),
            Series(f"mean of {window} steps", steps[window - 1 :], mean, "c4"),
        ],
        last,
        marks,
        (low - margin, high + margin),
    )
