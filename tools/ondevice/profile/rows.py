"""The measurement as rows: one an operator, a layer or a phase, and what lies outside of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ondevice.estimate.kinds import Kind
from ondevice.profile.estimated import OpEstimate
from ondevice.profile.measure import Measurement

Group = Literal["op", "layer", "phase"]
OUTSIDE = "outside operators"


@dataclass(frozen=True)
class Row:
    """One row, as the mean of a training step.

    Attributes:
        name: Operator, layer or phase.
        phase: "forward", "loss", "backward", "update", "apply"; "" where a row has several.
        count: Instructions or cycles.
        share: Of the whole step, 0 to 1.
        macs: Multiply-accumulates.
        read_bytes, written_bytes: Of the operators' tensors, each once an operator.
        estimate: By the cost model of the board's CPU; None: not estimated.
    """

    name: str
    phase: str
    count: float
    share: float
    macs: int
    read_bytes: int
    written_bytes: int
    estimate: OpEstimate | None = None

    @property
    def per_mac(self) -> float | None:
        """Instructions or cycles a multiply-accumulate."""
        return self.count / self.macs if self.macs else None


@dataclass(frozen=True)
class Profile:
    """Where a training step's instructions or cycles go.

    Attributes:
        measurement: What it was made of.
        group: What a row is.
        rows: In the order of the step.
        outside: The rest of the step: the listing's calls, and the counter's own reading.
        total: The whole step.
    """

    measurement: Measurement
    group: Group
    rows: tuple[Row, ...]
    outside: Row
    total: Row


def make_profile(
    measurement: Measurement,
    ops: Sequence[dict[str, Any]],
    group: Group,
    estimates: Sequence[OpEstimate] | None = None,
) -> Profile:
    """Groups the operators' counts.

    Args:
        measurement: Of a model with these operators.
        ops: Of the manifest.
        group: What a row is.
        estimates: For each operator; None: no estimate.
    """
    steps = measurement.steps
    whole = measurement.total / steps
    counts = [count / steps for count in measurement.op_totals]
    members: dict[str, list[int]] = {}
    for index, op in enumerate(ops):
        key = str(op["name"] if group == "op" else op[group])
        # Two operators of the same name are still two rows.
        members.setdefault(f"{index} {key}" if group == "op" else key, []).append(index)
    rows = []
    for key, indices in members.items():
        phases = {str(ops[i]["phase"]) for i in indices}
        count = sum(counts[i] for i in indices)
        rows.append(
            Row(
                name=key.split(" ", 1)[1] if group == "op" else key,
                phase=phases.pop() if len(phases) == 1 else "",
                count=count,
                share=count / whole if whole else 0.0,
                macs=sum(int(ops[i]["macs"]) for i in indices),
                read_bytes=sum(int(ops[i]["read_bytes"]) for i in indices),
                written_bytes=sum(int(ops[i]["written_bytes"]) for i in indices),
                estimate=None if estimates is None else _sum(estimates[i] for i in indices),
            )
        )
    rest = whole - sum(counts)
    outside = Row(OUTSIDE, "", rest, rest / whole if whole else 0.0, 0, 0, 0)
    total = Row(
        name="whole step",
        phase="",
        count=whole,
        share=1.0,
        macs=sum(row.macs for row in rows),
        read_bytes=sum(row.read_bytes for row in rows),
        written_bytes=sum(row.written_bytes for row in rows),
        estimate=None if estimates is None else _sum(estimates),
    )
    return Profile(measurement, group, tuple(rows), outside, total)


def _sum(estimates: Iterable[OpEstimate]) -> OpEstimate:
    cycles = 0.0
    mix: dict[Kind, float] = {}
    for estimate in estimates:
        cycles += estimate.cycles
        for kind, count in estimate.mix.items():
            mix[kind] = mix.get(kind, 0.0) + count
    return OpEstimate(cycles, mix)
