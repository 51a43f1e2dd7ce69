"""`ondevice profile`: each operator's count against the whole step's, rows against the manifest."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from ondevice.cli import app
from ondevice.config import TrainingSettings
from ondevice.errors import UserError
from ondevice.link.device import Device
from ondevice.link.messages import CounterKind, StepResult
from ondevice.profile.estimated import OpEstimate
from ondevice.profile.measure import Measurement, measure
from ondevice.profile.rows import Group, make_profile
from toy_training import ToyDevice, toy_dataset, toy_manifest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "tests" / os.environ.get("PYTEST_XDIST_WORKER", "main")
SVG = "{http://www.w3.org/2000/svg}"
STEP_TICKS, OP_TICKS, APPLY_TICKS = 3_000_000_000, (1_700_000_000, 1_299_999_990), 70


class CountingDevice(ToyDevice):
    """Its operators take as long as the constants above say; its counters have 32 bits."""

    def __init__(self, accumulation_steps: int = 1) -> None:
        super().__init__(accumulation_steps=accumulation_steps)
        self.info = replace(self.info, profile_count=len(OP_TICKS))
        self.per_op = [0] * len(OP_TICKS)

    def train(self, learning_rate: float = 0.0) -> StepResult:
        self.trained_on.append(self._input)
        self.per_op = [(n + t) % 2**32 for n, t in zip(self.per_op, OP_TICKS, strict=True)]
        return replace(self.evaluate(), count=STEP_TICKS)

    def apply(self, learning_rate: float = 0.0) -> int:
        self.applied_at.append(len(self.trained_on))
        return APPLY_TICKS

    def profile(self) -> list[int]:
        return list(self.per_op)


def entry(name: str, phase: str, layer: str, macs: int) -> dict[str, Any]:
    """An operator of the manifest."""
    return {
        "name": name, "phase": phase, "layer": layer, "macs": macs,
        "read_bytes": 10 * macs, "written_bytes": macs,
    }  # fmt: skip


def counting_manifest(accumulation_steps: int = 1) -> dict[str, Any]:
    ops = [entry("forward/fc", "forward", "fc", 6), entry("update/fc", "update", "fc", 6)]
    optimizer = {"name": "sgd", "accumulation_steps": accumulation_steps}
    return toy_manifest(ops=ops, optimizer=optimizer)


def run(device: ToyDevice, manifest: dict[str, Any], steps: int) -> Measurement:
    return measure(cast(Device, device), manifest, toy_dataset(), TrainingSettings(), steps)


def profiled(*options: str) -> list[dict[str, Any]]:
    """The records of the demo's profile on the default simulated board."""
    arguments = ["profile", "--json", "--steps", "2", "--build-dir", str(BUILD), *options]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_the_operators_of_the_demo_add_up_to_the_step_but_for_its_frame(tmp_path: Path) -> None:
    picture = tmp_path / "profile.svg"
    *rows, step = profiled("--report", str(picture))
    *ops, outside = rows
    assert step["counter_resolution"] == 1
    assert outside["name"] == "outside operators"
    summed = sum(op["instructions"] for op in ops)
    assert summed + outside["instructions"] == pytest.approx(step["instructions"], abs=0.02)
    # The two readings of the counter, and the listing's own first and last lines.
    assert 0 < outside["instructions"] < 20 * len(ops)
    assert step["macs"] == sum(op["macs"] for op in ops) > 0
    assert all(op["instructions"] > 0 for op in ops)
    bars = ET.fromstring(picture.read_text()).findall(f"{SVG}rect")
    assert len(bars) == len(rows)
    widths = [float(bar.attrib["width"]) for bar in bars]
    costs = [row["instructions"] for row in rows]
    assert widths.index(max(widths)) == costs.index(max(costs))
    assert sum(widths) / max(widths) == pytest.approx(sum(costs) / max(costs), rel=1e-3)


@pytest.mark.parametrize("every", [1, 2])
def test_counts_of_a_step_are_right_although_the_counters_wrap(every: int) -> None:
    device = CountingDevice(every)
    measured = run(device, counting_manifest(every), 3)
    steps = 3 if every == 1 else 4  # whole updates
    assert measured.steps == len(device.trained_on) == steps
    assert measured.op_totals == tuple(steps * ticks for ticks in OP_TICKS)
    updates = len(device.applied_at)
    assert updates == (0 if every == 1 else 2)
    assert measured.total == steps * STEP_TICKS + updates * APPLY_TICKS


@pytest.mark.parametrize("group", ["op", "layer", "phase"])
def test_every_grouping_accounts_for_all_of_the_step(group: Group) -> None:
    ops = [
        entry("forward/a", "forward", "a", 5), entry("forward/b", "forward", "b", 0),
        entry("backward/a", "backward", "a", 7), entry("backward/a", "backward", "a", 1),
    ]  # fmt: skip
    measured = Measurement("toy", "cycles", 1, 1_000_000, 2, 210, (20, 40, 60, 80))
    estimates = [OpEstimate(float(n), {"alu": n, "load": 1}) for n in (1, 2, 3, 4)]
    made = make_profile(measured, ops, group, estimates)
    assert made.total.count == 105
    assert sum(row.count for row in (*made.rows, made.outside)) == 105
    assert sum(row.share for row in (*made.rows, made.outside)) == pytest.approx(1)
    assert made.outside.count == 5
    assert made.total.macs == 13
    assert made.total.read_bytes == 130
    assert made.total.estimate == OpEstimate(10.0, {"alu": 10, "load": 4})
    summed = [row.estimate.cycles for row in made.rows if row.estimate is not None]
    assert sum(summed) == 10
    names = {
        "op": [op["name"] for op in ops],
        "layer": ["a", "b"],
        "phase": ["forward", "backward"],
    }
    assert [row.name for row in made.rows] == names[group]
    if group == "layer":
        assert made.rows[0].count == (20 + 60 + 80) / 2
        assert made.rows[0].per_mac == pytest.approx(80 / 13)
        assert made.rows[1].per_mac is None


def test_an_operators_bytes_are_those_of_its_tensors_and_its_layer_that_of_its_weight(
    tmp_path: Path,
) -> None:
    result = CliRunner().invoke(app, ["compile", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    # Full update in int8: every parameter is in RAM, so the manifest knows its size.
    sizes = {p["name"]: p["bytes"] for p in manifest["parameters"]}
    (stem,) = [op for op in manifest["ops"] if op["name"].startswith("forward/stem")]
    assert stem["layer"] == "stem"
    assert stem["read_bytes"] == (
        manifest["input"]["bytes"] + sizes["stem.weight"] + sizes["stem.bias"]
    )
    (update,) = [op for op in manifest["ops"] if op["name"] == "update/stem.weight"]
    assert update["layer"] == "stem"
    assert update["written_bytes"] == sizes["stem.weight"]
    weights = [p["name"] for p in manifest["parameters"] if p["kind"] == "parameter"]
    layers = {name.rpartition(".")[0] for name in weights}
    assert {op["layer"] for op in manifest["ops"] if op["macs"]} == layers


def test_a_board_that_counts_nothing_is_refused_before_any_work(tmp_path: Path) -> None:
    arguments = ["profile", "--board", "host", "--build-dir", str(tmp_path / "build")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UserError)
    assert "use a simulated board such as qemu_f405" in str(result.exception)
    assert not (tmp_path / "build").exists()
    with pytest.raises(UserError, match="neither instructions nor cycles"):
        run(ToyDevice(CounterKind.NANOSECONDS), counting_manifest(), 1)


def test_a_firmware_without_a_profile_of_the_model_is_refused() -> None:
    with pytest.raises(UserError, match="profile of 0 operators, the model has 2"):
        run(ToyDevice(), counting_manifest(), 1)
