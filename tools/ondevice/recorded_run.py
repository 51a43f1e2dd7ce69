"""A run that was interrupted, as its folder knows it: what `ondevice train --resume` needs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ondevice.checkpoint import check_checkpoint, load_checkpoint
from ondevice.config import Config, load_config
from ondevice.errors import UserError
from ondevice.events import Evaluated, ParametersRead
from ondevice.outcome import Recorded
from ondevice.step_results import StepResults

START_FILE = "start.npz"


@dataclass(frozen=True)
class RecordedRun:
    """What a run folder holds.

    Attributes:
        path: The folder.
        config: As the run was begun with.
        model_id: Of the compiled model.
        samples: In the training set.
        recorded: Position and results.
        evaluations: In order.
        start: Checkpoint that it began with; None: the model's own parameters.
    """

    path: Path
    config: Config
    model_id: str
    samples: int
    recorded: Recorded
    evaluations: tuple[Evaluated, ...]
    start: Path | None = None


def load_recorded_run(path: Path) -> RecordedRun:
    """Reads a run folder.

    Raises:
        UserError: It is none, or is damaged, or the run is complete.
    """
    metrics = path / "metrics.jsonl"
    if not metrics.is_file():
        raise UserError(f"{path}: no metrics.jsonl there; give the folder of a run, runs/DATE-NAME")
    config = load_config(path / "config.toml")
    try:
        replayed = _Replay()
        for record in whole_lines(metrics):
            replayed.take(record)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{metrics}: damaged: {error}; begin the run again") from error
    if replayed.results is None or replayed.run == 0:
        raise UserError(f"{path}: the run had not begun, or is of an older version; begin it again")
    if replayed.complete:
        raise UserError(f"{path}: this run is complete; nothing is left to resume")
    return RecordedRun(
        path,
        config,
        replayed.model_id,
        replayed.samples,
        Recorded(
            run=replayed.run,
            step=replayed.step,
            results=replayed.results,
            before=next((e for e in replayed.evaluations if e.moment == "before"), None),
            rate_scale=replayed.rate_scale,
            rollbacks=replayed.rollbacks,
            state=_state(path, replayed.run),
        ),
        tuple(replayed.evaluations),
        path / START_FILE if (path / START_FILE).is_file() else None,
    )


def whole_lines(metrics: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of metrics.jsonl; a last line that was cut short is none."""
    for line in metrics.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)


def _state(path: Path, run: int) -> ParametersRead | None:
    file = path / "checkpoint.npz"
    if not file.is_file():
        return None
    checkpoint = load_checkpoint(file)
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    check_checkpoint(file, checkpoint, manifest)
    counters = checkpoint.counters
    return ParametersRead(
        checkpoint.step,
        checkpoint.parameter_bytes(),
        checkpoint.scales,
        replace(counters, run=run) if counters is not None else None,
    )


class _Replay:
    """Takes the records of a run in order."""

    def __init__(self) -> None:
        self.results: StepResults | None = None
        self.run, self.model_id, self.samples, self.step = 0, "", 0, 0
        self.rate_scale, self.rollbacks = 1.0, 0
        self.evaluations: list[Evaluated] = []
        self.complete = False

    def take(self, record: dict[str, Any]) -> None:
        kind = record["event"]
        if kind == "start":
            self.run, self.model_id = int(record.get("run") or "0", 16), record["model_id"]
            self.samples = record["samples"]
            self.results = self.results or StepResults.empty(record["total_steps"])
        if self.results is None:
            raise ValueError("it does not begin with the start")
        if kind == "step":
            self.step = record["step"]
            self.results.put(self.step, record["loss"], record["correct"], record["count"])
        elif kind == "unseen":
            self.step = record["step"]
        elif kind in ("went_on", "rollback"):
            self.step = record["step"]
            self.results.forget_after(self.step)
            if kind == "rollback":
                self.rate_scale, self.rollbacks = record["rate_scale"], record["rollbacks"]
        elif kind == "evaluate":
            names = [item.name for item in fields(Evaluated) if item.name != "confusion"]
            rows = record.get("confusion")  # runs of older versions have none
            confusion = tuple(map(tuple, rows)) if rows is not None else None
            found = {name: record[name] for name in names}
            self.evaluations.append(Evaluated(**found, confusion=confusion))
        elif kind == "end":
            self.complete = not record["interrupted"]
