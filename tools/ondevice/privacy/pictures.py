"""Pictures of an audit: samples beside what was made of their updates, and the sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ondevice.plot import Picture
from ondevice.privacy.results import Audit, Row
from ondevice.privacy.verdict import best_of

LARGEST_COLUMNS = 6
CELL_INCHES = 1.15


def side_by_side(audit: Audit, rows: Sequence[Row]) -> Picture:
    """The private samples above, below them what each row's attack found.

    Args:
        audit: Of the rows.
        rows: A line each.
    """
    columns = min(len(audit.private), LARGEST_COLUMNS)
    series = audit.private.ndim < 4
    width = CELL_INCHES * (2.0 if series else 1.0)
    figure = Picture(
        figsize=(width * columns + 3.4, CELL_INCHES * (len(rows) + 1)), layout="constrained"
    )
    grid = figure.subplots(len(rows) + 1, columns, squeeze=False)
    low, high = float(audit.private.min()), float(audit.private.max())
    lines: list[tuple[str, Any]] = [("private", audit.private)]
    for row in rows:
        similar = "" if row.ssim is None else f", SSIM {row.ssim:.2f}"
        title = (
            f"{row.scenario.title}\n{row.attack}{similar}\n"
            f"{row.recognisable} of {len(row.scores)} recognisable"
        )
        lines.append((title, row.found))
    for axes_row, (title, samples) in zip(grid, lines, strict=True):
        for axes, sample in zip(axes_row, samples, strict=False):
            _draw(axes, np.asarray(sample), low, high)
            axes.set_xticks([])
            axes.set_yticks([])
        axes_row[0].set_ylabel(
            title, rotation=0, ha="right", va="center", fontsize=7, labelpad=6, wrap=False
        )
    return figure


def _draw(axes: Any, sample: Any, low: float, high: float) -> None:
    """A picture [channels, rows, columns], a series [channels, time] or a vector."""
    if sample.ndim == 3 and sample.shape[0] == 3:
        axes.imshow(np.moveaxis((sample - low) / max(high - low, 1e-9), 0, -1).clip(0, 1))
    elif sample.ndim == 3:
        axes.imshow(sample[0], cmap="gray", vmin=low, vmax=high)
    else:
        axes.plot(np.atleast_2d(sample).T, linewidth=0.7)
        axes.set_ylim(low, high)


def shown_rows(audit: Audit) -> list[Row]:
    """Of each scenario the most successful attack, without every second step of the sweeps."""
    best = best_of(audit.rows)
    device = [row for row in best if row.scenario.group not in ("noise", "pruning")]
    noise = [
        row
        for row in best
        if row.scenario.defence is not None and row.scenario.defence.kind == "gaussian"
    ]
    pruning = [row for row in best if row.scenario.group == "pruning"]
    return [*device, *noise, *pruning]


def sweep_curves(audit: Audit) -> Picture | None:
    """Error over sparsity and over the variance of noise; None: nothing was swept."""
    best = best_of(audit.rows)
    panels = [
        (
            "share of elements pruned (%)",
            {
                "zeros taken for gradients": _sweep(best, "prune", False, 100.0),
                "only what was sent is matched": _sweep(best, "prune", True, 100.0),
            },
            False,
        ),
        (
            "variance of the noise",
            {
                "Gaussian": _sweep(best, "gaussian", False, 1.0),
                "Laplacian": _sweep(best, "laplace", False, 1.0),
            },
            True,
        ),
    ]
    panels = [panel for panel in panels if any(panel[1].values())]
    if not panels:
        return None
    figure = Picture(figsize=(5.2 * len(panels), 3.8), layout="constrained")
    typical = float(np.mean(audit.typical_mse))
    for axes, (label, curves, logarithmic) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for name, points in curves.items():
            if points:
                axes.plot(*zip(*points, strict=True), "o-", label=name)
        axes.axhline(typical, color="0.6", linestyle="--", label="another sample of the class")
        axes.set_yscale("log")
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel("mean squared error")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def _sweep(
    rows: Sequence[Row], kind: str, sent_only: bool, factor: float
) -> list[tuple[float, float]]:
    return sorted(
        (row.scenario.defence.amount * factor, row.mse)
        for row in rows
        if row.scenario.defence is not None
        and row.scenario.defence.kind == kind
        and row.scenario.sent_only == sent_only
    )
