"""The screen of `ondevice record`: channels as they move, counts, keys."""

from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ondevice.live.open import Medium
from ondevice.live.record_session import View

_LEVELS = "▁▂▃▄▅▆▇█"
_COLUMNS = 32
_MOST_CHANNELS = 12


def sparkline(values: NDArray[np.float32], columns: int = _COLUMNS) -> str:
    """Draws [n] numbers as at most so many characters, from their least to their largest."""
    if len(values) == 0:
        return ""
    edges = np.linspace(0, len(values), min(columns, len(values)) + 1).astype(int)
    means = np.array([values[first:last].mean() for first, last in pairwise(edges)])
    low, high = float(means.min()), float(means.max())
    if not high > low:
        return _LEVELS[0] * len(means)
    levels = ((means - low) / (high - low) * (len(_LEVELS) - 1)).round().astype(int)
    return "".join(_LEVELS[level] for level in levels)


def record_screen(view: View, source: str, medium: Medium) -> Group:
    """Returns what is drawn.

    Args:
        view: What there is to show.
        source: Name of the source.
        medium: Of pictures, a key saves one instead of beginning a take; of sound, the line is of
            its strength.
    """
    pictures = medium == "picture"
    head = Text(f"{source}  {view.rate}  {view.samples:,} samples", style="bold")
    said = [Text(line) for line in view.said]
    return Group(
        head, _channels(view, medium), _labels(view, pictures), _keys(view, pictures), *said
    )


def _channels(view: View, medium: Medium) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("channel", "now", "level (RMS)", "", "from", "to"):
        justify: Literal["left", "right"] = "left" if title in ("channel", "") else "right"
        table.add_column(title, justify=justify, no_wrap=True)
    for index, name in enumerate(view.channels[:_MOST_CHANNELS]):
        values = view.recent[:, index]
        if len(values) == 0:
            table.add_row(name)
            continue
        level = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
        table.add_row(
            name,
            f"{values[-1]:.4g}",
            f"{level:.4g}",
            sparkline(np.abs(values) if medium == "sound" else values),
            f"{values.min():.4g}",
            f"{values.max():.4g}",
        )
    if len(view.channels) > _MOST_CHANNELS:
        table.add_row(f"and {len(view.channels) - _MOST_CHANNELS} more")
    return table


def _labels(view: View, pictures: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("key", "label", "pictures" if pictures else "takes", "seconds", ""):
        table.add_column(title)
    for key, (label, takes, seconds) in enumerate(view.counts, start=1):
        now = f"● recording {view.seconds:.1f} s" if label == view.label else ""
        style = "bold red" if label == view.label else None
        table.add_row(f"{key}", label, f"{takes}", f"{seconds:.1f}", now, style=style)
    return table


def _keys(view: View, pictures: bool) -> Text:
    last = len(view.counts)
    digits = "1" if last == 1 else f"1-{last}"
    what = "save a picture" if pictures else "begin/end a take"
    stop = "" if pictures else "   space end it"
    return Text(f"{digits} {what}{stop}   u undo   q quit", style="dim")
