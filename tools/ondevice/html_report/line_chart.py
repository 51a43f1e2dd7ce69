"""A line chart: laid out here, drawn by templates/line_chart.html.j2 as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ondevice.html_report.axis import Axis
from ondevice.html_report.numbers import plain

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 540, 290, 34, 14, 12, 46
DIGIT = 8.2  # pixels, about, of a character beside the axis, where the font is largest
BUCKETS = 300  # columns of a curve; each keeps its lowest and its highest value

Kind = Literal["line", "faint", "points"]


@dataclass(frozen=True)
class Series:
    """Values over steps.

    Attributes:
        label: In the legend.
        x, y: [n], n at least 1.
        colour: Class of style.css: "c1" to "c5".
        kind: How it is drawn.
    """

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: str
    kind: Kind = "line"


@dataclass(frozen=True)
class Mark:
    """A vertical line at a step.

    Attributes:
        x: Step.
        kind: "rollback" or "link lost"; its words are classes of style.css.
        words: What happened.
    """

    x: float
    kind: str
    words: str


@dataclass(frozen=True)
class Drawn:
    """A series in pixels: a path, or dots with what they say."""

    series: Series
    path: str
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class LineChart:
    """A chart, laid out.

    Attributes:
        name: Unique in the page: of ids.
        title: Above it.
        words: What it shows, for those who do not see it.
        x_label, y_label: With units.
        x, y: Axes.
        drawn: Series.
        marks: With their places.
    """

    name: str
    title: str
    words: str
    x_label: str
    y_label: str
    x: Axis
    y: Axis
    drawn: tuple[Drawn, ...]
    marks: tuple[tuple[float, Mark], ...]

    width, height = WIDTH, HEIGHT

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Places and texts."""
        return [(round(self.x.place(v), 1), plain(v)) for v in self.x.ticks()]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Places and texts."""
        return [(round(self.y.place(v), 1), plain(v)) for v in self.y.ticks()]

    @property
    def mark_kinds(self) -> list[str]:
        """Kinds of marks that are there, for the legend."""
        return sorted({mark.kind for _, mark in self.marks})


def line_chart(
    name: str,
    title: str,
    words: str,
    y_label: str,
    series: Sequence[Series],
    last_step: int,
    marks: Sequence[Mark] = (),
    limits: tuple[float, float] | None = None,
    logarithmic: bool = False,
) -> LineChart:
    """Lays a chart over training steps out.

    Args:
        name, title, words, y_label: See `LineChart`.
        series: What is drawn, from back to front; at least one.
        last_step: End of the x axis; it begins at 0.
        marks: What happened.
        limits: Of the y axis; None: from 0 to the largest value, or the values' range where it is
            logarithmic.
        logarithmic: The y axis is.
    """
    if limits is None:
        top = max(float(s.y.max()) for s in series)
        low = min(float(s.y.min()) for s in series) if logarithmic else 0.0
        limits = (low, top * 1.04 if top > low else low + 1.0)
    y = Axis(*limits, HEIGHT - BOTTOM, TOP, logarithmic)
    longest = max((len(plain(tick)) for tick in y.ticks()), default=0)
    x = Axis(0.0, float(max(last_step, 1)), round(LEFT + DIGIT * longest), WIDTH - RIGHT)
    return LineChart(
        name,
        title,
        words,
        "training step",
        y_label,
        x,
        y,
        tuple(_draw(one, x, y, y_label) for one in series),
        tuple((round(x.place(mark.x), 1), mark) for mark in marks),
    )


def _draw(series: Series, x: Axis, y: Axis, unit: str) -> Drawn:
    if series.kind == "points":
        places = zip(x.places(series.x), y.places(series.y), strict=True)
        words = [
            f"step {step:,.0f}: {plain(value)} ({unit})"
            for step, value in zip(series.x, series.y, strict=True)
        ]
        dots = tuple(
            (round(float(at[0]), 1), round(float(at[1]), 1), text)
            for at, text in zip(places, words, strict=True)
        )
    else:
        dots = ()
    xs, ys = thinned(x.places(series.x), y.places(series.y))
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(xs, ys, strict=True))
    return Drawn(series, path, dots)


def thinned(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keeps of each column of a long curve its lowest and its highest point: [n] to [m]."""
    if len(x) <= 2 * BUCKETS:
        return x, y
    kept = [0]
    for column in np.array_split(np.arange(len(x)), BUCKETS):
        ends = {int(column[np.argmin(y[column])]), int(column[np.argmax(y[column])])}
        kept += sorted(ends)
    chosen = np.unique([*kept, len(x) - 1])
    return x[chosen], y[chosen]
