"""The folder that a run leaves behind: DATE-NAME with settings, metrics, checkpoint and plot."""

import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ondevice.checkpoint import checkpoint_from_device, save_checkpoint
from ondevice.config import Config, config_to_toml
from ondevice.errors import UserError
from ondevice.events import (
    Ended,
    Evaluated,
    Event,
    ParametersRead,
    RolledBack,
    Started,
    StepTrained,
    StepUnseen,
    WentOn,
    event_record,
)
from ondevice.recorded_run import START_FILE, RecordedRun
from ondevice.step_results import StepResults
from ondevice_compiler.atomic_file import write_bytes_atomically, write_text_atomically


class RunFolder:
    """Writes a run's files as its events arrive.

    Every file is whole at any time: `metrics.jsonl` grows by whole lines, all others are replaced
    in one piece.

    Attributes:
        path: The folder.
        checkpoint: Path of the newest checkpoint, None before the first.

    Args:
        path: Exists.
        manifest: Of the compiled model.
        resumed: The run goes on in its folder; None: it begins.
    """

    def __init__(
        self, path: Path, manifest: dict[str, Any], resumed: RecordedRun | None = None
    ) -> None:
        self.path = path
        self.checkpoint: Path | None = None
        self._manifest = manifest
        self._results: StepResults | None = None
        self._step = 0
        self._evaluations: list[Evaluated] = []
        self._metrics = os.open(path / "metrics.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        if resumed is not None:
            self._results, self._step = resumed.recorded.results.copy(), resumed.recorded.step
            self._evaluations += resumed.evaluations
            if resumed.recorded.state is not None:
                self.checkpoint = path / "checkpoint.npz"
            _drop_cut_line(self._metrics)

    def on_event(self, event: Event) -> None:
        """Records one event."""
        if isinstance(event, ParametersRead):
            path = self.path / "checkpoint.npz"
            checkpoint = checkpoint_from_device(
                self._manifest, event.step, event.parameters, event.scales, event.counters
            )
            save_checkpoint(path, checkpoint)
            self.checkpoint = path
        elif isinstance(event, Evaluated):
            self._evaluations.append(event)
        else:
            self._take_step(event)
        record = event_record(event)
        if record is not None:
            # One write a line: a killed process leaves whole lines.
            os.write(self._metrics, (json.dumps(record) + "\n").encode())
        if isinstance(event, Ended):
            self.draw()

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes the run's figures as summary.json."""
        write_text_atomically(self.path / "summary.json", json.dumps(summary, indent=1) + "\n")

    def _take_step(self, event: Event) -> None:
        if isinstance(event, Started) and self._results is None:
            self._results = StepResults.empty(event.total_steps)
        elif self._results is None:
            return
        elif isinstance(event, StepTrained):
            self._step = event.step
            self._results.put(event.step, event.loss, event.correct, event.count)
        elif isinstance(event, StepUnseen):
            self._step = event.step
        elif isinstance(event, WentOn | RolledBack):
            self._step = event.step
            self._results.forget_after(event.step)

    def draw(self) -> None:
        """Draws curves.png from the steps so far; nothing where none was seen."""
        if self._results is None or np.isnan(self._results.losses[: self._step]).all():
            return
        # Matplotlib takes half a second to import: not for those who train without a folder.
        from ondevice.plot import write_curves

        manifest = self._manifest
        write_curves(
            self.path / "curves.png",
            self._results.losses[: self._step],
            self._results.correct[: self._step],
            self._evaluations,
            f"{manifest['name']}, {manifest['dtype']}, update {manifest['scheme']['name']}",
        )

    def close(self) -> None:
        """Closes the metrics file; may be called twice."""
        if self._metrics >= 0:
            os.close(self._metrics)
            self._metrics = -1


def _drop_cut_line(metrics: int) -> None:
    """A computer that lost power may have left the last line without its end."""
    size = os.fstat(metrics).st_size
    content = os.pread(metrics, size, 0)
    os.ftruncate(metrics, content.rfind(b"\n") + 1)


def create_run_folder(
    config: Config, manifest: dict[str, Any], now: datetime, start: Path | None = None
) -> RunFolder:
    """Creates the folder with config.toml and manifest.json in it.

    Args:
        config: As used; its output section says where.
        manifest: Of the compiled model; its name is the default name.
        now: Becomes the DATE of the name.
        start: Checkpoint that the run begins with, which is copied; None: the model's parameters.

    Raises:
        UserError: The folder cannot be created.
    """
    path = create_folder(config, manifest, now, start)
    try:
        return RunFolder(path, manifest)
    except OSError as error:
        raise _unwritable(config, error) from error


def create_folder(
    config: Config, manifest: dict[str, Any], now: datetime, start: Path | None = None
) -> Path:
    """Creates a run's folder; see `create_run_folder`.

    Raises:
        UserError: It cannot be created.
    """
    name = config.output.name or str(manifest["name"])
    if not re.fullmatch(r"[\w.+-]+", name):
        raise UserError(f"run name {name!r}: allowed are letters, digits and _ . + -")
    stem = f"{now:%Y%m%d-%H%M%S}-{name}"
    try:
        config.output.directory.mkdir(parents=True, exist_ok=True)
        path = first_free(config.output.directory, stem)
        write_text_atomically(path / "config.toml", config_to_toml(config))
        write_text_atomically(path / "manifest.json", json.dumps(manifest, indent=1) + "\n")
        if start is not None:
            write_bytes_atomically(path / START_FILE, start.read_bytes())
        return path
    except OSError as error:
        raise _unwritable(config, error) from error


def _unwritable(config: Config, error: OSError) -> UserError:
    return UserError(
        f"{config.output.directory}: cannot write results there: {error.strerror}; "
        "choose another folder with --output"
    )


def first_free(directory: Path, stem: str) -> Path:
    """Creates directory/stem, or stem-2, stem-3... where another run of that second has it."""
    number = 1
    while True:
        path = directory / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            number += 1
