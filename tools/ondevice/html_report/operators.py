"""Section "Where the instructions go": the device's own counts of operators, layers and phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ondevice.html_report.history import History
from ondevice.profile.measure import Measurement
from ondevice.profile.rows import Row, make_profile

PHASES = {"forward": "c1", "loss": "c5", "backward": "c2", "update": "c3", "apply": "c4"}
_NEEDED = ("phase", "layer", "op", "macs", "read_bytes", "written_bytes")


@dataclass(frozen=True)
class Operator:
    """A row of the table.

    Attributes:
        number: In the order of the step.
        row: Its figures.
        kind: What it computes.
        layer: Of the model.
    """

    number: int
    row: Row
    kind: str
    layer: str


@dataclass(frozen=True)
class Layer:
    """A row of the stacked bars.

    Attributes:
        name: Of the layer.
        count: Of all phases.
        share: Of the whole step.
        pieces: Phase, its count, its share of the longest bar.
    """

    name: str
    count: float
    share: float
    pieces: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Operators:
    """The section.

    Attributes:
        unit: "instructions" or "cycles".
        steps: Over which is averaged.
        layers: In the order of the model.
        phases: Totals.
        operators: In the order of the step.
        outside: What no operator's count holds.
        total: The whole step.
        colours: Of the phases that are there.
    """

    unit: str
    steps: int
    layers: tuple[Layer, ...]
    phases: tuple[Row, ...]
    operators: tuple[Operator, ...]
    outside: Row
    total: Row
    colours: dict[str, str]


def operators(history: History) -> Operators | None:
    """Joins the counts with the manifest; None where the device kept no profile of this model."""
    totals, ops = history.operators, history.manifest["ops"]
    if totals is None or len(totals.of_operators) != len(ops) or not history.started.counter:
        return None
    if any(key not in op for op in ops for key in _NEEDED):
        return None  # compiled by an older version
    # The counter around a step does not see the update that ends an accumulation.
    applied = sum(
        count for op, count in zip(ops, totals.of_operators, strict=True) if op["phase"] == "apply"
    )
    accumulates = int(history.manifest["optimizer"].get("accumulation_steps", 1)) > 1
    measurement = Measurement(
        board=history.started.board,
        unit=history.started.counter,
        resolution=1,
        clock_hz=0,
        steps=totals.steps,
        total=totals.total + (applied if accumulates else 0),
        op_totals=totals.of_operators,
    )
    profile = make_profile(measurement, ops, "op")
    phases = {row.phase: row for row in make_profile(measurement, ops, "phase").rows}
    return Operators(
        unit=measurement.unit,
        steps=totals.steps,
        layers=_layers(ops, profile.rows),
        phases=tuple(phases[phase] for phase in PHASES if phase in phases),
        operators=tuple(
            Operator(number, row, str(op["op"]), str(op["layer"]))
            for number, (row, op) in enumerate(zip(profile.rows, ops, strict=True))
        ),
        outside=profile.outside,
        total=profile.total,
        colours={phase: colour for phase, colour in PHASES.items() if phase in phases},
    )


def _layers(ops: list[dict[str, Any]], rows: tuple[Row, ...]) -> tuple[Layer, ...]:
    counts: dict[str, dict[str, float]] = {}
    shares: dict[str, float] = {}
    for op, row in zip(ops, rows, strict=True):
        phases = counts.setdefault(str(op["layer"]), {})
        phases[row.phase] = phases.get(row.phase, 0.0) + row.count
        shares[str(op["layer"])] = shares.get(str(op["layer"]), 0.0) + row.share
    longest = max(max(sum(phases.values()) for phases in counts.values()), 1.0)
    return tuple(
        Layer(
            name,
            sum(phases.values()),
            shares[name],
            tuple((p, phases[p], phases[p] / longest) for p in PHASES if phases.get(p)),
        )
        for name, phases in counts.items()
    )
