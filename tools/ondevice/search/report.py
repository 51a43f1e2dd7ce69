"""The results of a search: as JSON, and as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ondevice.display import format_bytes
from ondevice.search.comparison import Row, pareto_front
from ondevice.search.contribution import Contributions
from ondevice.search.evolution import Limits
from ondevice.search.space import SearchSpace


def results_record(
    space: SearchSpace, contributions: Contributions, rows: Sequence[Row], best: Row, limits: Limits
) -> dict[str, Any]:
    """Everything that was measured, JSON-ready; accuracies from 0 to 1."""
    return {
        "limits": {"ram_bytes": limits.ram_bytes, "macs": limits.macs},
        "winner": best.contender.scheme.name,
        "contributions": {
            "biases": list(contributions.biases),
            "base_biases": contributions.base,
            "weights": {
                weight: {
                    str(share.ratio): contributions.weight_gain(index, number)
                    for number, share in enumerate(space.shares[index], start=1)
                }
                for index, weight in enumerate(space.weights)
            },
        },
        "rows": [_row_record(row, row in pareto_front(rows)) for row in rows],
    }


def _row_record(row: Row, on_front: bool) -> dict[str, Any]:
    contender = row.contender
    return {
        "scheme": contender.scheme.name,
        "group": contender.group,
        "ram_bytes": contender.cost.ram_bytes,
        "macs": contender.cost.macs,
        "fits": row.fits,
        "gain": contender.gain,
        "learning_rate": row.validation.learning_rate,
        "validation_accuracy": row.validation.mean,
        "test_accuracy": row.test.mean,
        "test_deviation": row.test.deviation,
        "test_runs": [list(seeds) for seeds in row.test.runs],
        "pareto": on_front,
    }


def contribution_table(space: SearchSpace, contributions: Contributions) -> Table:
    """Gains in points of accuracy: biases by how many, weights by share."""
    table = Table(title="Contributions: validation accuracy, and gain in points")
    table.add_column("trained beside the last layer")
    table.add_column("accuracy", justify="right")
    table.add_column("gain", justify="right")
    for count, accuracy in enumerate(contributions.biases):
        mark = " (base of the weights)" if count == contributions.base else ""
        name = "nothing" if count == 0 else f"biases of {count} layer{'s' if count > 1 else ''}"
        gain = contributions.bias_gain(count)
        table.add_row(name + mark, _percent(accuracy), _points(gain) if count else "")
    for index, weight in enumerate(space.weights):
        for number, share in enumerate(space.shares[index], start=1):
            gain = contributions.weight_gain(index, number)
            accuracy = contributions.weights[index][number - 1]
            part = "" if share.channels is None else f", {share.ratio:g} of its channels"
            table.add_row(f"{weight}{part}", _percent(accuracy), _points(gain))
    return table


def comparison_table(rows: Sequence[Row], best: Row, limits: Limits) -> Table:
    """All schemes by RAM; the winner and the Pareto front are marked."""
    limit = f"{limits.ram_bytes:,} B of RAM"
    if limits.macs is not None:
        limit += f" and {limits.macs:,} MACs a step"
    table = Table(title=f"Accuracy within {limit}")
    table.add_column("scheme", min_width=20)
    for heading in ("RAM", "MACs", "lr", "val. %", "test %"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    front = pareto_front(rows)
    for row in sorted(rows, key=lambda r: (r.contender.cost.ram_bytes, r.contender.cost.macs)):
        marks = [
            *(["best"] if row is best else []),
            *(["Pareto"] if row in front else []),
            *([] if row.fits else ["too big"]),
        ]
        cost = row.contender.cost
        table.add_row(
            row.contender.scheme.name,
            format_bytes(cost.ram_bytes),
            f"{cost.macs:,}",
            f"{row.validation.learning_rate:g}",
            f"{100 * row.validation.mean:.1f}",
            _with_deviation(row),
            ", ".join(marks),
        )
    return table


def _with_deviation(row: Row) -> str:
    """Of the seeds, where there are several."""
    mean = f"{100 * row.test.mean:.1f}"
    return f"{mean} ± {100 * row.test.deviation:.1f}" if len(row.test.runs[0]) > 1 else mean


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(gain: float) -> str:
    return f"{round(100 * gain, 1) + 0.0:+.1f}"  # no -0.0
