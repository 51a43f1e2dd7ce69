"""Accuracy against RAM as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from ondevice.search.comparison import Row, pareto_front
from ondevice_compiler.atomic_file import write_bytes_atomically

matplotlib.use("Agg")  # no display is needed, nor opened
from matplotlib import pyplot as plt

MARKERS = {"searched": "*", "last": "o", "bias": "s", "full": "D"}
TITLES = {"searched": "searched", "last": "last-K", "bias": "bias only", "full": "full"}


def write_accuracy_against_ram(
    path: Path, rows: Sequence[Row], limit_bytes: int, title: str
) -> None:
    """Draws all schemes, the Pareto front through the best of them, and the limit, as SVG.

    Raises:
        OSError: The folder cannot be written.
    """
    # The same rows give the same bytes.
    with plt.rc_context({"svg.hashsalt": "ondevice", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        try:
            front = pareto_front(rows)
            axes.plot(
                [_kilobytes(row) for row in front],
                [100 * row.test.mean for row in front],
                color="0.7",
                zorder=1,
                label="Pareto front",
            )
            for group, marker in MARKERS.items():
                mine = [row for row in rows if row.contender.group == group]
                if not mine:
                    continue
                axes.errorbar(
                    [_kilobytes(row) for row in mine],
                    [100 * row.test.mean for row in mine],
                    [100 * row.test.deviation for row in mine],
                    fmt=marker,
                    markersize=11 if group == "searched" else 7,
                    capsize=3,
                    linewidth=1,
                    label=TITLES[group],
                )
                if group == "last":
                    for row in mine:
                        place = (_kilobytes(row), 100 * row.test.mean)
                        name = row.contender.scheme.name.removeprefix("last-")
                        axes.annotate(name, place, (5, -11), textcoords="offset points")
            axes.axvline(limit_bytes / 1024, color="0.5", linestyle=":", label="limit")
            axes.set_xlabel("RAM of model and stack (KB)")
            axes.set_ylabel("accuracy on test data (%)")
            axes.set_title(title)
            axes.legend(loc="lower right")
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        finally:
            plt.close(figure)
    write_bytes_atomically(path, buffer.getvalue())


def _kilobytes(row: Row) -> float:
    return row.contender.cost.ram_bytes / 1024
