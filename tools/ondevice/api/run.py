"""What a training run left, for a notebook: history, curves, confusion, figures, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ondevice.api.results import Evaluation
from ondevice.checkpoint import Checkpoint, load_checkpoint
from ondevice.errors import UserError
from ondevice.events import Evaluated, Telemetry
from ondevice.html_report.history import load_history
from ondevice.plot import Picture, curves_figure

if TYPE_CHECKING:
    from ondevice.api.model import Model
    from ondevice.api.model_checkpoint import ModelCheckpoint


class Run:
    """A run folder, of `Board.fit` or of `ondevice train`.

    Example:
        >>> again = ondevice.Run(run.path)
        >>> again.losses.shape
        (4,)
        >>> picture = again.plot()

    Args:
        path: The folder.
        model: That was trained; None: known by the folder alone.

    Attributes:
        path: The folder.
        model: That was trained, where it is known.
        steps: Training steps done.
        losses: float64 [steps], of each training sample before its update; NaN where the link
            lost it.
        correct: bool [steps], whether each sample was predicted right before its update.
        counts: int64 [steps], instructions or cycles; 0 where not counted.
        learning_rates: float64 [steps]; NaN where the link lost it.

    Raises:
        UserError: It is no run folder, or damaged.
    """

    def __init__(self, path: str | Path, model: Model | None = None) -> None:
        self.path, self.model = Path(path), model
        self._history = load_history(self.path)
        trained = self._history.trained
        self.steps = trained[-1].step if trained else 0
        self.losses = np.full(self.steps, np.nan)
        self.correct = np.zeros(self.steps, np.bool_)
        self.counts = np.zeros(self.steps, np.int64)
        self.learning_rates = np.full(self.steps, np.nan)
        for event in trained:
            at = event.step - 1
            self.losses[at], self.correct[at] = event.loss, event.correct
            self.counts[at], self.learning_rates[at] = event.count or 0, event.learning_rate

    @property
    def evaluations(self) -> tuple[Evaluated, ...]:
        """On held-out samples, in order."""
        return self._history.evaluations

    @property
    def telemetry(self) -> tuple[Telemetry, ...]:
        """What board and link said of themselves now and then, in order."""
        return self._history.telemetry

    @property
    def before(self) -> Evaluation | None:
        """Before training; None where the run was stopped before it."""
        return self._moment("before")

    @property
    def after(self) -> Evaluation | None:
        """After training; None where the run was stopped."""
        return self._moment("after")

    @property
    def interrupted(self) -> bool:
        """Whether it ended before its last step."""
        return self._history.interrupted

    @property
    def manifest(self) -> dict[str, Any]:
        """Of the model."""
        return self._history.manifest

    @property
    def summary(self) -> dict[str, Any]:
        """Figures, as in summary.json; empty where the run failed."""
        return self._history.summary or {}

    @property
    def parameters(self) -> Checkpoint:
        """The newest checkpoint, as the board holds parameters.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        return load_checkpoint(self.path / "checkpoint.npz")

    def checkpoint(self) -> ModelCheckpoint:
        """The newest checkpoint, with the model that it belongs to.

        Raises:
            UserError: There is none, or the run was opened without its model.
        """
        if self.model is None:
            raise UserError(
                f"{self.path}: the run was opened without its model; use "
                "model.checkpoint(run.path / 'checkpoint.npz'), or run.parameters"
            )
        return self.model.checkpoint(self.path / "checkpoint.npz")

    def plot(self) -> Picture:
        """Draws loss and accuracy over the steps, as a matplotlib figure.

        Raises:
            UserError: No step was seen.
        """
        if np.isnan(self.losses).all():
            raise UserError(f"{self.path}: there is no step to draw")
        title = f"{self.manifest['name']}, {self.manifest['dtype']}"
        return curves_figure(self.losses, self.correct, self.evaluations, title)

    def report(self, file: str | Path | None = None) -> Path:
        """Writes the run's report, one HTML file, and returns it; see `ondevice report`.

        Args:
            file: Destination; None: report.html in the folder.

        Raises:
            OSError: It cannot be written.
        """
        from ondevice.html_report.page import write_report

        return write_report(self.path, Path(file) if file is not None else None)

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.steps} steps>"

    def _repr_html_(self) -> str:
        from ondevice.api.html import run_html

        return run_html(self)

    def _moment(self, moment: str) -> Evaluation | None:
        found = self._history.evaluation(moment)
        if found is None:
            return None
        confusion = np.array(found.confusion, np.int64) if found.confusion else None
        names = tuple(self._history.class_names(len(confusion) if confusion is not None else 0))
        return Evaluation(found.samples, found.accuracy, found.loss, confusion, names)
