"""A run in MLflow: parameters, metrics, and the files of its folder as artefacts."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from time import time
from typing import Any

from ondevice.config import Config
from ondevice.events import Ended, Evaluated, Event, Started
from ondevice.trackers.scalars import Scalars
from ondevice.trackers.tracker import Status

EXPERIMENT = "ondevice"
RUN_TAG = "ondevice.run"
METRICS_A_REQUEST = 500
ARTEFACTS = ("report.html", "summary.json", "config.toml", "manifest.json", "checkpoint.npz")
_STATUS = {"complete": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
# Training waits for the server; one that does not answer is given up soon. MLflow's own report of
# how it is used goes to nobody. Folders are the only store that mlflow-skinny brings along.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}


class Mlflow:
    """Writes to a tracking server or a folder.

    Args:
        uri: Of the server or store; without "://", a folder.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri if "://" in uri else Path(uri).absolute().as_uri()
        self._scalars = Scalars()
        self._waiting: list[Any] = []
        self._client: Any = None
        self._folder, self._config, self._run = Path(), Config(), ""

    def begin(self, folder: Path, config: Config) -> None:
        """Reaches the server, or makes the folder."""
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=self._uri)
        self._folder, self._config = folder, config

    def on_event(self, event: Event) -> None:
        """Sends the numbers of an event, many at once."""
        from mlflow.entities import Metric

        if isinstance(event, Started):
            self._start(event)
        now = int(1000 * time())
        self._waiting += [
            Metric(number.name, number.value, now, number.step)
            for number in self._scalars.of(event)
        ]
        if len(self._waiting) >= METRICS_A_REQUEST or isinstance(event, Evaluated | Ended):
            self._send()

    def finish(self, folder: Path, status: Status) -> None:
        """Sends what waits and the run's files."""
        if not self._run:
            return  # the run did not come to its start
        self._send()
        for name in ARTEFACTS:
            if (folder / name).is_file():
                self._client.log_artifact(self._run, str(folder / name))
        self._client.set_terminated(self._run, _STATUS[status])

    def _start(self, event: Started) -> None:
        """Begins a run, or goes on with that of an interrupted one."""
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        same = self._client.search_runs(
            [experiment], filter_string=f"tags.`{RUN_TAG}` = '{event.run}'", max_results=1
        )
        if same and event.run:
            self._run = same[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        tags = {
            RUN_TAG: event.run,
            "board": event.board,
            "model": event.model,
            "model_id": event.model_id,
        }
        run = self._client.create_run(experiment, run_name=self._folder.name, tags=tags)
        self._run = run.info.run_id
        params = [
            Param(f"{section}.{key}", str(value))
            for section, values in asdict(self._config).items()
            if section != "output"  # where things go is no parameter of the run
            for key, value in values.items()
            if value is not None and value != ()
        ]
        self._client.log_batch(self._run, params=params[:100])

    def _send(self) -> None:
        if self._waiting:
            self._client.log_batch(self._run, metrics=self._waiting)
            self._waiting = []
