"""What a run folder says happened, in the order of training steps."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ondevice.compiled_model import load_model_directory
from ondevice.environment import ENVIRONMENT_FILE
from ondevice.errors import UserError
from ondevice.events import (
    BoardCheckpoint,
    Ended,
    Evaluated,
    Event,
    LinkLost,
    RolledBack,
    Started,
    StepTrained,
    Telemetry,
    WentOn,
    event_of_record,
)
from ondevice.recorded_run import START_FILE, whole_lines

Incident = LinkLost | WentOn | RolledBack | BoardCheckpoint
_Measured = TypeVar("_Measured", Evaluated, Telemetry)


@dataclass(frozen=True)
class OperatorTotals:
    """The device's counts of operators, over the steps of which they are known.

    Attributes:
        steps: How many.
        total: Instructions or cycles of these steps, by the counter around a whole step.
        of_operators: Of each operator, in the manifest's order.
    """

    steps: int
    total: int
    of_operators: tuple[int, ...]


@dataclass(frozen=True)
class History:
    """A run as it went.

    Attributes:
        name: Of the run folder.
        manifest: Of the compiled model.
        summary: Figures of a run that came to its end; None: it was cut off.
        config: The text of config.toml; empty where there is none.
        environment: See `ondevice.environment`; None in runs of older versions.
        from_checkpoint: It began with a checkpoint, which the folder keeps.
        started: The newest start.
        trained: Steps in order, of which the model has learnt in the end.
        evaluations: On held-out samples, likewise.
        telemetry: Likewise; empty in runs of older versions.
        incidents: What went wrong, in the order in which it did.
        operators: None where the device keeps no profile.
        interrupted: It did not come to its last step.
    """

    name: str
    manifest: dict[str, Any]
    summary: dict[str, Any] | None
    config: str
    environment: dict[str, Any] | None
    from_checkpoint: bool
    started: Started
    trained: tuple[StepTrained, ...]
    evaluations: tuple[Evaluated, ...]
    telemetry: tuple[Telemetry, ...]
    incidents: tuple[Incident, ...]
    operators: OperatorTotals | None
    interrupted: bool

    @property
    def steps(self) -> NDArray[np.float64]:
        """Numbers of the steps that were seen: [n]."""
        return np.array([event.step for event in self.trained], np.float64)

    @property
    def counts(self) -> NDArray[np.float64]:
        """Instructions or cycles of the steps that were counted: [n]."""
        found = [event.count for event in self.trained if event.count is not None]
        return np.array(found, np.float64)

    def evaluation(self, moment: str) -> Evaluated | None:
        """Returns the last measurement of a moment."""
        return next((e for e in reversed(self.evaluations) if e.moment == moment), None)

    def class_names(self, classes: int) -> list[str]:
        """Returns a name for each class: its number where the data has none."""
        preprocessing = self.manifest.get("preprocessing") or {}
        names = self.started.class_names or preprocessing.get("class_names") or ()
        return [str(names[i]) if i < len(names) else str(i) for i in range(classes)]


def load_history(path: Path) -> History:
    """Reads a run folder, whether the run is complete or not.

    Raises:
        UserError: It is none, or is damaged, or the run had not begun.
    """
    metrics = path / "metrics.jsonl"
    if not metrics.is_file():
        raise UserError(f"{path}: no metrics.jsonl there; give the folder of a run, runs/DATE-NAME")
    try:
        events = [event_of_record(record) for record in whole_lines(metrics)]
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{metrics}: damaged: {error}; there is nothing to report") from error
    timeline = _Timeline()
    for event in events:
        timeline.take(event)
    if timeline.started is None:
        raise UserError(f"{path}: the run had not begun; there is nothing to report")
    config = path / "config.toml"
    return History(
        name=path.resolve().name,
        manifest=load_model_directory(path).manifest,
        summary=_json(path / "summary.json"),
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
        environment=_json(path / ENVIRONMENT_FILE),
        from_checkpoint=(path / START_FILE).is_file(),
        started=timeline.started,
        trained=tuple(timeline.trained[step] for step in sorted(timeline.trained)),
        evaluations=tuple(timeline.evaluations),
        telemetry=tuple(timeline.telemetry),
        incidents=tuple(timeline.incidents),
        operators=timeline.operators(),
        interrupted=timeline.interrupted,
    )


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: damaged: {error}; there is nothing to report") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged: no table; there is nothing to report")
    return content


class _Timeline:
    """Takes the events of a run; what a rollback undid is forgotten."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.trained: dict[int, StepTrained] = {}
        self.evaluations: list[Evaluated] = []
        self.telemetry: list[Telemetry] = []
        self.incidents: list[Incident] = []
        self.interrupted = True
        # Counts of operators begin anew with each process, and skip what it did not read.
        self._pending = [0, 0]
        self._counted = [0, 0]
        self._op_counts: tuple[int, ...] = ()

    def take(self, event: Event) -> None:
        if isinstance(event, Started):
            self.started = event
            self._pending, self._counted, self._op_counts = [0, 0], [0, 0], ()
        elif isinstance(event, StepTrained):
            self.trained[event.step] = event
            self._pending = [self._pending[0] + 1, self._pending[1] + (event.count or 0)]
        elif isinstance(event, Evaluated):
            self.evaluations.append(event)
        elif isinstance(event, Telemetry):
            self.telemetry.append(event)
            self._counted = [a + b for a, b in zip(self._counted, self._pending, strict=True)]
            self._pending, self._op_counts = [0, 0], event.op_counts
        elif isinstance(event, Ended):
            self.interrupted = event.interrupted
        if isinstance(event, WentOn | RolledBack):
            self._forget_after(event.step)
            self._pending = [0, 0]
        if isinstance(event, LinkLost | WentOn | RolledBack) or (
            isinstance(event, BoardCheckpoint) and event.error
        ):
            self.incidents.append(event)

    def _forget_after(self, step: int) -> None:
        self.trained = {at: event for at, event in self.trained.items() if at <= step}
        self.evaluations = _up_to(step, self.evaluations)
        self.telemetry = _up_to(step, self.telemetry)

    def operators(self) -> OperatorTotals | None:
        steps, total = self._counted
        if steps == 0 or not any(self._op_counts):
            return None
        return OperatorTotals(steps, total, self._op_counts)


def _up_to(step: int, events: Iterable[_Measured]) -> list[_Measured]:
    return [event for event in events if event.step <= step]
