"""A run folder as `ondevice train` leaves it, written by hand: with a lost link and a rollback."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ondevice.events import (
    Ended,
    Evaluated,
    Event,
    LinkLost,
    RolledBack,
    Started,
    StepTrained,
    Telemetry,
    WentOn,
    event_record,
)
from toy_training import MODEL_ID, toy_manifest

CLASS_NAMES = ("rest", "walk", "run")
BEFORE = ((4, 1, 0), (3, 2, 0), (0, 5, 0))
AFTER = ((5, 0, 0), (0, 4, 1), (0, 0, 5))
STEPS = 60
OPS = (
    ("forward/fc", "linear", "forward", "fc", 6),
    ("loss/d.fc", "cross_entropy_error", "loss", "fc", 0),
    ("update/fc.weight", "linear_dw", "update", "fc", 6),
)
OP_COUNTS = (50, 20, 25)  # of a step, whose own count is 100


def report_manifest(**changes: Any) -> dict[str, Any]:
    """A manifest whose operators say what the report shows of them."""
    ops = [
        {
            **{"index": i, "name": name, "op": kind, "phase": phase, "layer": layer},
            **{"macs": macs, "read_bytes": 12, "written_bytes": 8},
        }
        for i, (name, kind, phase, layer, macs) in enumerate(OPS)
    ]
    tensors = [
        {"name": "input", "kind": "input", "offset": 0, "bytes": 12, "first_step": -1},
        {"name": "d.fc", "kind": "gradient", "offset": 12, "bytes": 52, "first_step": 1},
    ]
    memory = {
        **toy_manifest()["memory"],
        "tensors": [{**tensor, "last_step": 2} for tensor in tensors],
    }
    scales = [{"index": 0, "name": "d.fc", "elements": 100}]
    return toy_manifest(**{"ops": ops, "memory": memory, "scales": scales, **changes})


def started(**changes: Any) -> Started:
    facts: dict[str, Any] = {
        "model_id": MODEL_ID,
        "model": "toy",
        "board": "toyboard",
        "dtype": "int8",
        "scheme": "full",
        "samples": 20,
        "test_samples": 15,
        "total_steps": STEPS,
        "learning_rate": 0.5,
        "seed": 0,
        "counter": "instructions",
        "planned_ram_bytes": 104,
        "run": "00000000000000ab",
        "class_names": CLASS_NAMES,
        "stack_bytes": 2048,
        "session_bytes": 2000,
    }
    return Started(**{**facts, **changes})


def trained(step: int) -> StepTrained:
    return StepTrained(step, (step - 1) // 20 + 1, step % 20, 0.5, 4.0 / step, step > 30, 100)


def reading(step: int, counted_steps: int, saturated: int, zeros: int) -> Telemetry:
    counts = tuple(count * counted_steps for count in OP_COUNTS)
    return Telemetry(step, saturated, zeros, 60, 900, counts, 3 * step, 1, 2, 70 * step, 30 * step)


def eventful_run() -> list[Event]:
    """60 steps; the link is lost after 20, and steps 41 to 45 diverge and are trained again.

    The counts of operators miss steps 16 to 20 and the diverged ones: nobody read them in time.
    """
    events: list[Event] = [started(), Evaluated("before", 0, 15, 6, 0.4, 2.5, BEFORE)]
    for step in range(1, 21):
        events.append(trained(step))
        if step in (10, 15):
            events.append(reading(step, step, step // 5, 2 * step))
    events += [LinkLost(20, 1, 0.5, "no answer"), WentOn(20, 20, "board")]
    for step in range(21, 46):
        events.append(trained(step))
        if step in (30, 40):
            events.append(reading(step, step - 5, step // 5, 2 * step))
    events.append(RolledBack(40, 45, "the loss rose", "host", 0.5, 1))
    events += [trained(step) for step in range(41, STEPS + 1)]
    events.append(reading(STEPS, STEPS - 5, 12, 120))
    events += [Evaluated("after", STEPS, 15, 14, 14 / 15, 0.25, AFTER), Ended(STEPS, False)]
    return events


def report_summary() -> dict[str, Any]:
    """The figures of `eventful_run`, by the keys of summary.json."""
    return {
        "model": "toy",
        "board": "toyboard",
        "steps": STEPS,
        "interrupted": False,
        "reconnects": 1,
        "rollbacks": 1,
        "accuracy_before": 0.4,
        "accuracy_after": 14 / 15,
        "loss_before": 2.5,
        "loss_after": 0.25,
        "counter": "instructions",
        "count_per_step": 100.0,
        "ram_bytes": 104,
        "arena_planned_bytes": 64,
        "arena_measured_bytes": 60,
        "stack_reserved_bytes": 2048,
        "stack_measured_bytes": 900,
        "firmware_ram_bytes": 5000,
        "flash_bytes": 12_345,
        "training_s": 1.5,
    }


def write_folder(
    path: Path,
    events: Sequence[Event],
    manifest: dict[str, Any] | None = None,
    summary: dict[str, Any] | None = None,
    config: str = "[training]\nlearning_rate = 0.5\n",
) -> Path:
    """Writes a run folder; without `summary` it has none, as that of a run that was cut off."""
    path.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(event_record(event)) + "\n" for event in events]
    (path / "metrics.jsonl").write_text("".join(lines))
    (path / "manifest.json").write_text(json.dumps(manifest or report_manifest()))
    (path / "config.toml").write_text(config)
    if summary is not None:
        (path / "summary.json").write_text(json.dumps(summary))
    return path
