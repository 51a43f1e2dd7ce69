"""Trackers of a run; whatever happens to one of them, training goes on."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

from ondevice.config import Config, OutputSettings
from ondevice.errors import UserError
from ondevice.events import Event

Status = Literal["complete", "interrupted", "failed"]


class Tracker(Protocol):
    """Records a run somewhere; any exception of its methods ends the recording, not the run."""

    def begin(self, folder: Path, config: Config) -> None:
        """The run folder is there."""

    def on_event(self, event: Event) -> None:
        """Takes the next event."""

    def finish(self, folder: Path, status: Status) -> None:
        """The run is over and its folder written."""


class Trackers:
    """All trackers of a run; one that fails is named once and left out from then on.

    Args:
        trackers: By the name that people know.
        say: Takes lines for the person.
    """

    def __init__(self, trackers: dict[str, Tracker], say: Callable[[str], None]) -> None:
        self._trackers, self._say = dict(trackers), say

    def begin(self, folder: Path, config: Config) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.begin(folder, config))

    def on_event(self, event: Event) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.on_event(event))

    def finish(self, folder: Path, status: Status) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.finish(folder, status))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:  # of a library, a disk or a server that is not the run's
                del self._trackers[name]
                reason = " ".join(str(error).split()) or type(error).__name__
                self._say(f"{name}: {reason}; the run goes on without it")


def check_trackers(settings: OutputSettings) -> None:
    """Refuses a tracker whose package is not installed, before any work.

    Raises:
        UserError: Says what to install.
    """
    for option, given, module in (
        ("tensorboard", settings.tensorboard, "tensorboard"),
        ("mlflow", settings.mlflow, "mlflow"),
    ):
        if given is not None and find_spec(module) is None:
            raise UserError(
                f"--{option}: the package {module} is not installed; "
                f"pip install 'ondevice-training[{option}]'"
            )


def open_trackers(settings: OutputSettings, say: Callable[[str], None]) -> Trackers:
    """Makes the trackers that the settings ask for.

    Raises:
        UserError: The package of one is not installed.
    """
    check_trackers(settings)
    trackers: dict[str, Tracker] = {}
    if settings.tensorboard is not None:
        from ondevice.trackers.tensorboard import TensorBoard

        trackers["TensorBoard"] = TensorBoard(settings.tensorboard)
    if settings.mlflow is not None:
        from ondevice.trackers.mlflow import Mlflow

        trackers["MLflow"] = Mlflow(settings.mlflow)
    return Trackers(trackers, say)
