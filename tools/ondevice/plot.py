"""Loss and accuracy of a run as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from ondevice.events import Evaluated
from ondevice_compiler.atomic_file import write_bytes_atomically

matplotlib.use("Agg")  # no display is needed, nor opened
from matplotlib import pyplot as plt


def write_curves(
    path: Path,
    losses: NDArray[np.float64],
    correct: NDArray[np.bool_],
    evaluations: Sequence[Evaluated],
    title: str,
) -> None:
    """Draws loss and accuracy over training steps as a PNG.

    Args:
        path: Destination.
        losses: [steps], of each training sample before its update; at least one.
        correct: [steps], likewise.
        evaluations: On held-out samples; those with an accuracy are marked.
        title: Above the picture.

    Raises:
        OSError: The folder cannot be written.
    """
    window = max(1, len(losses) // 20)
    steps = np.arange(1, len(losses) + 1)
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    try:
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
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    finally:
        plt.close(figure)
    write_bytes_atomically(path, buffer.getvalue())


def running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Returns the mean of every `window` neighbours: [n] to [n - window + 1]."""
    sums = np.cumsum(np.concatenate(([0.0], values)))
    return np.asarray((sums[window:] - sums[:-window]) / window)
