"""Section "Device and link": saturated gradients, what the link carried, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ondevice.events import LinkLost, RolledBack, Telemetry, WentOn
from ondevice.html_report.history import History, Incident
from ondevice.html_report.line_chart import LineChart, Series, line_chart
from ondevice.html_report.numbers import percent, plain

MOST_INCIDENTS = 100
_WHOSE = {"board": "what the board holds", "host": "the uploaded checkpoint", "start": "the start"}


@dataclass(frozen=True)
class Health:
    """The section.

    Attributes:
        charts: Gradients over the run, where the model is of int8.
        link: Names, texts and keys of what the link of the last process carried.
        incidents: Step and what happened.
        left_out: Incidents that are not listed.
    """

    charts: tuple[LineChart, ...]
    link: tuple[tuple[str, str, str], ...]
    incidents: tuple[tuple[int, str], ...]
    left_out: int


def health(history: History) -> Health | None:
    """Returns the section; None for a quiet run of an older version."""
    if not history.telemetry and not history.incidents:
        return None
    incidents = [_incident(event) for event in history.incidents]
    return Health(
        _gradients(history),
        _link(history.telemetry[-1]) if history.telemetry else (),
        tuple(incidents[:MOST_INCIDENTS]),
        max(len(incidents) - MOST_INCIDENTS, 0),
    )


def _gradients(history: History) -> tuple[LineChart, ...]:
    elements = sum(int(scale.get("elements", 0)) for scale in history.manifest["scales"])
    readings = history.telemetry
    if elements == 0 or len(readings) < 2:
        return ()
    steps = np.array([0, *(event.step for event in readings)], np.float64)
    series, words = [], []
    for label, key, colour in (
        ("rounded to 0", "zeros", "c1"),
        ("saturated", "saturated", "c2"),
    ):
        sums = np.array([0, *(getattr(event, key) for event in readings)], np.float64)
        # A reading that follows a rollback may count fewer than the one before.
        share = 100 * np.maximum(np.diff(sums), 0) / (elements * np.maximum(np.diff(steps), 1))
        series.append(Series(label, steps[1:], share, colour))
        words.append(f"{plain(float(share.mean()))} % {label}")
    title = "Gradient elements that int8 does not hold"
    return (
        line_chart(
            "gradients",
            title,
            f"On average {' and '.join(words)}.",
            "of all gradient elements (%)",
            series,
            readings[-1].step,
        ),
    )


def _link(last: Telemetry) -> tuple[tuple[str, str, str], ...]:
    rate = last.retries / last.requests if last.requests else 0.0
    return (
        ("requests answered", f"{last.requests:,}", "requests"),
        ("sent to the device", f"{last.bytes_out:,} B", "bytes_out"),
        ("received from it", f"{last.bytes_in:,} B", "bytes_in"),
        ("frames sent again", f"{last.retries:,} ({percent(rate, 2)} of requests)", "retries"),
        ("damaged frames", f"{last.corrupt_frames:,}", "corrupt_frames"),
    )


def _incident(event: Incident) -> tuple[int, str]:
    if isinstance(event, LinkLost):
        return event.step, f"link lost (attempt {event.attempt}): {event.error}"
    if isinstance(event, WentOn):
        return event.step, f"went on after step {event.step}, with {_WHOSE[event.origin]}"
    if isinstance(event, RolledBack):
        return event.diverged_step, (
            f"diverged: {event.reason}; back to step {event.step}, learning rate times "
            f"{event.rate_scale:g} from then on"
        )
    return event.step, f"no checkpoint on the board: {event.error}"
