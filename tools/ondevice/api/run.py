"""What a training run left, for a notebook: history, curves, confusion, figures."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ondevice.api.results import Evaluation
from ondevice.checkpoint import Checkpoint, load_checkpoint
from ondevice.errors import UserError
from ondevice.events import Evaluated
from ondevice.recorded_run import Replay, replay
from ondevice.step_results import StepResults

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

    Raises:
        UserError: It is no run folder, or damaged.
    """

    def __init__(self, path: str | Path, model: Model | None = None) -> None:
        self.path, self.model = Path(path), model
        self._replay: Replay = replay(self.path)
        self.manifest: dict[str, Any] = _table(self.path / "manifest.json")

    @property
    def steps(self) -> int:
        """Training steps done."""
        return self._replay.step

    @property
    def losses(self) -> NDArray[np.float64]:
        """[steps], of each training sample before its update; NaN where the link lost it."""
        return self._results.losses[: self.steps]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """[steps], whether each training sample was predicted right before its update."""
        return self._results.correct[: self.steps]

    @property
    def counts(self) -> NDArray[np.int64]:
        """[steps], instructions or cycles; 0 where not counted."""
        return self._results.counts[: self.steps]

    @property
    def evaluations(self) -> tuple[Evaluated, ...]:
        """On held-out samples, in order."""
        return tuple(self._replay.evaluations)

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
        return not self._replay.complete

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Figures; see summary.json in docs/results.md. Empty where the run failed."""
        file = self.path / "summary.json"
        return _table(file) if file.is_file() else {}

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

    def plot(self) -> Any:
        """Draws loss and accuracy over the steps as a matplotlib figure.

        Raises:
            UserError: No step was seen.
        """
        from ondevice.plot import curves_figure

        if not self.steps or np.isnan(self.losses).all():
            raise UserError(f"{self.path}: there is no step to draw")
        title = f"{self.manifest['name']}, {self.manifest['dtype']}"
        return curves_figure(self.losses, self.correct, self.evaluations, title)

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self.steps} steps>"

    def _repr_html_(self) -> str:
        from ondevice.api.html import run_html

        return run_html(self)

    @property
    def _results(self) -> StepResults:
        return self._replay.results or StepResults.empty(0)

    @property
    def _class_names(self) -> tuple[str, ...]:
        return self.model.data.class_names if self.model is not None else ()

    def _moment(self, moment: str) -> Evaluation | None:
        found = next((e for e in reversed(self.evaluations) if e.moment == moment), None)
        if found is None:
            return None
        confusion = np.array(found.confusion, np.int64) if found.confusion else None
        return Evaluation(found.samples, found.accuracy, found.loss, confusion, self._class_names)


def _table(file: Path) -> dict[str, Any]:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable: {error}; begin the run again") from error
    if not isinstance(table, dict):
        raise UserError(f"{file}: not a table; begin the run again")
    return table
