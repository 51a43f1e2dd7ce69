"""Pictures of the Python API."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ondevice.plot import Picture

LARGEST_NUMBERED = 12  # classes, beyond which cells hold no numbers


def confusion_figure(confusion: NDArray[np.int64], names: tuple[str, ...] = ()) -> Picture:
    """Draws a confusion matrix; a row is a true class, its colours are shares of the row.

    Args:
        confusion: [true class, predicted class], samples.
        names: One a class, or empty.
    """
    count = len(confusion)
    labels = names if len(names) == count else tuple(map(str, range(count)))
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.35 * min(count, 20)
    figure = Picture(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="Blues")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if count <= LARGEST_NUMBERED:
        axes.set_xticks(range(count), labels, rotation=45, ha="right")
        axes.set_yticks(range(count), labels)
        for row, column in np.ndindex(confusion.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = str(int(confusion[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=colour)
    return figure
