"""A curve in characters: eight dots a cell where the terminal has Braille, else one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.text import Text

from ondevice.dashboard.surface import Surface

# The bit of each dot of a Braille character, [row][column].
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LABEL = 7  # columns for the figures of the axis, and its line


@dataclass(frozen=True)
class Axis:
    """What a direction of the plot means.

    Attributes:
        low, high: At its ends.
        logarithmic: Equal lengths are equal ratios; `low` is positive then.
    """

    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Returns where a value lies, 0 to 1."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return (value - low) / (high - low) if high > low else 0.0

    def at(self, place: float) -> float:
        """Returns the value at a place, 0 to 1."""
        if self.logarithmic:
            return float(self.low * (self.high / self.low) ** place)
        return self.low + place * (self.high - self.low)


def plot(
    curve: Sequence[tuple[float, float]],
    marks: Sequence[tuple[float, float]],
    axes: tuple[Axis, Axis],
    surface: Surface,
    styles: tuple[str, str],
    unit: str = "",
) -> Text:
    """Draws a curve and single marks over it, with figures at the axes.

    Args:
        curve: Points x, y; x rises.
        marks: Points that are no curve.
        axes: Of x and y.
        surface: Where.
        styles: Of the curve and of the marks.
        unit: Behind the figures of y.
    """
    columns, rows = max(2, surface.width - _LABEL), max(1, surface.height - 1)
    cells = _curve_cells(curve, axes, columns, rows, surface)
    shown: dict[tuple[int, int], tuple[str, str]] = {
        place: (character, styles[0]) for place, character in cells.items()
    }
    for x, y in marks:
        place = (
            round((1 - axes[1].place(y)) * (rows - 1)),
            round(axes[0].place(x) * (columns - 1)),
        )
        shown[place] = (surface.pick("●", "o"), styles[1])
    text = Text(no_wrap=True, overflow="crop", end="")
    labelled = _labelled_rows(rows)
    for row in range(rows):
        value = axes[1].at(1 - row / (rows - 1) if rows > 1 else 1.0)
        label = f"{_short(value)}{unit}" if row in labelled else ""
        line = surface.pick("┤" if label else "│", "|")
        text.append(f"{label:>{_LABEL - 1}}{line}", style="dim")
        for column in range(columns):
            text.append(*shown.get((row, column), (" ", "")))
        text.append("\n")
    first, last = f"{axes[0].low:,.0f}", f"{axes[0].high:,.0f}"
    middle = f"{'step':^{max(0, columns - len(first) - len(last))}}"
    text.append(f"{'':{_LABEL}}{first}{middle}{last}", style="dim")
    return text


def _labelled_rows(rows: int) -> set[int]:
    if rows < 3:
        return {0}
    return {0, rows - 1} if rows < 7 else {0, (rows - 1) // 2, rows - 1}


def _short(value: float) -> str:
    """A figure in at most five characters."""
    if value == 0 or value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _curve_cells(
    curve: Sequence[tuple[float, float]],
    axes: tuple[Axis, Axis],
    columns: int,
    rows: int,
    surface: Surface,
) -> dict[tuple[int, int], str]:
    """Returns the characters of the curve by row and column."""
    if not curve:
        return {}
    wide, high = (2, 4) if surface.unicode else (1, 1)
    width, height = columns * wide, rows * high
    x = np.array([axes[0].place(point[0]) * (width - 1) for point in curve])
    y = np.array([(1 - axes[1].place(point[1])) * (height - 1) for point in curve])
    dots: dict[tuple[int, int], int] = {}
    before: int | None = None
    for column in range(math.ceil(x[0] - 0.5), math.floor(x[-1] + 0.5) + 1):
        now = round(float(np.interp(column, x, y)))
        # Joined to its neighbour, or a steep curve falls apart.
        start = now if before is None else before + (now > before) - (now < before)
        for row in range(min(start, now), max(start, now) + 1):
            place = (row // high, column // wide)
            dots[place] = dots.get(place, 0) | _BITS[row % high][column % wide]
        before = now
    if not surface.unicode:
        return dict.fromkeys(dots, "*")
    return {place: chr(0x2800 + bits) for place, bits in dots.items()}
