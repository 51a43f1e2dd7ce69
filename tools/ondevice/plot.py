"""Loss and accuracy of a run as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ondevice.events import Evaluated
from ondevice_compiler.atomic_file import write_bytes_atomically


class Picture(Figure):
    """A figure that needs no display, and that a notebook shows as it is."""

    def png(self, dots_per_inch: int = 110) -> bytes:
        """Returns it as a PNG."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=dots_per_inch)
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


def write_curves(
    path: Path,
    losses: NDArray[np.float64],
    correct: NDArray[np.bool_],
    evaluations: Sequence[Evaluated],
    title: str,
) -> None:
    """Draws loss and accuracy over training steps as a PNG; see `curves_figure`.

    Raises:
        OSError: The folder cannot be written.
    """
    picture = curves_figure(losses, correct, evaluations, title)
    write_bytes_atomically(path, picture.png())


def curves_figure(
    losses: NDArray[np.float64],
    correct: NDArray[np.bool_],
    evaluations: Sequence[Evaluated],
    title: str,
) -> Picture:
    """Draws loss and accuracy over training steps.

    Args:
        losses: [steps], of each training sample before its update; at least one is a number. NaN:
            lost with the link; a line is drawn over these.
        correct: [steps], likewise.
        evaluations: On held-out samples; those with an accuracy are marked.
        title: Above the picture.
    """
    losses = _filled(losses)
    window = max(1, len(losses) // 20)
    steps = np.arange(1, len(losses) + 1)
    figure = Picture(figsize=(8, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(steps, losses, color="0.8", linewidth=0.5, label="each sample")
    top.plot(steps[window - 1 :], running_mean(losses, window), label=f"mean of {window}")
    top.set_ylabel("loss")
    top.legend()
    bottom.plot(
        steps[window - 1 :],
        100 * running_mean(correct.astype(np.float64), window),
        label=f"training, mean of {window}",
    )
    measured = [(e.step, 100 * e.accuracy) for e in evaluations if e.accuracy is not None]
    if measured:
        bottom.plot(*zip(*measured, strict=True), "o--", label="held-out samples")
    bottom.set_ylabel("accuracy (%)")
    bottom.set_xlabel("training step")
    bottom.set_ylim(-2, 102)
    bottom.legend()
    figure.suptitle(title)
    return figure


def _filled(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    steps, known = np.arange(len(losses)), ~np.isnan(losses)
    return np.interp(steps, steps[known], losses[known])


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Returns the mean of every `window` neighbours: [n] to [n - window + 1]."""
    sums = np.cumsum(np.concatenate(([0.0], values)))
    return np.asarray((sums[window:] - sums[:-window]) / window)
