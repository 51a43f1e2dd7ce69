"""Best so far against trials: the search with the cost model beside a random one."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from ondevice.tune.run import TuneOutcome
from ondevice_compiler.atomic_file import write_bytes_atomically

matplotlib.use("Agg")  # no display is needed, nor opened
from matplotlib import pyplot as plt


def best_so_far(outcome: TuneOutcome) -> NDArray[np.float64]:
    """After each trial: instructions of the best tile / of the first, geometric mean of workloads.

    Returns:
        float64 [trials]; a workload with fewer keeps its best.
    """
    rows = []
    for trials in outcome.trials.values():
        counts = [np.inf if t.count is None else float(t.count) for t in trials]
        if counts and np.isfinite(counts[0]):
            rows.append(np.minimum.accumulate(counts) / counts[0])
    if not rows:
        return np.ones(0)
    length = max(len(row) for row in rows)
    padded = [np.pad(row, (0, length - len(row)), mode="edge") for row in rows]
    mean: NDArray[np.float64] = np.exp(np.mean(np.log(padded), axis=0))
    return mean


def write_best_so_far(
    path: Path, outcomes: Mapping[str, TuneOutcome], title: str, unit: str
) -> None:
    """Draws one line a search, as SVG.

    Raises:
        OSError: The folder cannot be written.
    """
    # The same searches give the same bytes.
    with plt.rc_context({"svg.hashsalt": "ondevice", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        try:
            for name, outcome in outcomes.items():
                line = 100 * best_so_far(outcome)
                axes.step(np.arange(1, len(line) + 1), line, where="post", label=name)
            axes.set_xlabel("trials of each workload")
            axes.set_ylabel(f"best {unit} so far\n(% of the untuned tile, geometric mean)")
            axes.set_title(title)
            axes.grid(alpha=0.3)
            axes.legend()
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        finally:
            plt.close(figure)
    write_bytes_atomically(path, buffer.getvalue())
