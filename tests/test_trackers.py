"""TensorBoard and MLflow: what is recorded is read back, and their trouble never ends a run."""

import json
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from ondevice import cli, session
from ondevice.config import Config, OutputSettings, TrainingSettings
from ondevice.errors import UserError
from ondevice.events import Ended, Event, RolledBack, StepTrained
from ondevice.link.device import Device
from ondevice.target import OpenTarget
from ondevice.trackers import tracker
from ondevice.trackers.scalars import Scalars
from ondevice.trackers.tracker import Status, Tracker, Trackers, check_trackers, open_trackers
from ondevice.train import run_training
from recorded_folder import started, trained
from toy_training import ToyDevice, toy_dataset, toy_manifest, write_toy_data

CONFIG = Config(training=TrainingSettings(steps=30, learning_rate=0.5))


def events_of_a_run() -> list[Event]:
    events: list[Event] = []
    run_training(ToyDevice(), toy_manifest(), toy_dataset(), CONFIG.training, events.append)
    return events


def record(
    output: OutputSettings, events: list[Event], folder: Path, status: Status = "complete"
) -> list[str]:
    """Records events; returns what the person is told."""
    said: list[str] = []
    trackers = open_trackers(output, said.append)
    folder.mkdir(exist_ok=True)
    trackers.begin(folder, CONFIG)
    for event in events:
        trackers.on_event(event)
    trackers.finish(folder, status)
    return said


def tensorboard_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Reads event files with TensorBoard's own reader."""
    accumulation = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulation.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {
        name: [(entry.step, entry.value) for entry in reader.Scalars(name)]
        for name in reader.Tags()["scalars"]
    }


def test_tensorboard_reads_every_step_and_every_measurement(tmp_path: Path) -> None:
    events = events_of_a_run()
    said = record(OutputSettings(tensorboard=tmp_path / "tb"), events, tmp_path / "a-run")
    assert said == []
    found = tensorboard_scalars(tmp_path / "tb" / "a-run")
    steps = [event for event in events if isinstance(event, StepTrained)]
    assert [step for step, _ in found["training/loss"]] == list(range(1, 31))
    assert [loss for _, loss in found["training/loss"]] == pytest.approx([e.loss for e in steps])
    assert [rate for _, rate in found["training/learning_rate"]] == pytest.approx(
        [e.learning_rate for e in steps]
    )
    assert found["device/instructions"] == [(step, 1000.0) for step in range(1, 31)]
    assert [step for step, _ in found["held_out/accuracy"]] == [0, 30]
    assert "gradients/saturated" in found


def test_tensorboard_forgets_what_a_rollback_undid(tmp_path: Path) -> None:
    events: list[Event] = [started(), *(trained(step) for step in range(1, 11))]
    events.append(RolledBack(4, 10, "the loss rose", "host", 0.5, 1))
    events += [trained(step) for step in range(5, 8)]
    record(OutputSettings(tensorboard=tmp_path), events, tmp_path / "a-run")
    found = tensorboard_scalars(tmp_path / "a-run")
    assert [step for step, _ in found["training/loss"]] == list(range(1, 8))


def mlflow_run(store: Path) -> tuple[Any, Any]:
    """Returns MLflow's client and the only run in a store."""
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(tracking_uri=store.as_uri())
    experiment = client.get_experiment_by_name("ondevice")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def test_mlflow_holds_parameters_metrics_and_files_of_a_run(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    events = events_of_a_run()
    folder = tmp_path / "20261126-120000-toy"
    folder.mkdir()
    (folder / "summary.json").write_text('{"steps": 30}')
    (folder / "report.html").write_text("<!DOCTYPE html>")
    assert record(OutputSettings(mlflow=str(tmp_path / "store")), events, folder) == []
    client, run = mlflow_run(tmp_path / "store")
    assert (run.info.run_name, run.info.status) == (folder.name, "FINISHED")
    assert run.data.params["training.learning_rate"] == "0.5"
    assert run.data.params["training.steps"] == "30"
    assert run.data.tags["board"] == "toyboard"
    history = client.get_metric_history(run.info.run_id, "training/loss")
    steps = [event for event in events if isinstance(event, StepTrained)]
    assert [(entry.step, entry.value) for entry in history] == [(e.step, e.loss) for e in steps]
    artefacts = sorted(item.path for item in client.list_artifacts(run.info.run_id))
    assert artefacts == ["report.html", "summary.json"]


def test_mlflow_goes_on_with_the_run_of_a_resumed_one(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    output = OutputSettings(mlflow=str(tmp_path / "store"))
    events: list[Event] = [started(), trained(1), trained(2)]
    record(output, events, tmp_path / "a-run", "interrupted")
    client, run = mlflow_run(tmp_path / "store")
    assert run.info.status == "KILLED"
    record(output, [started(), trained(3), Ended(3, False)], tmp_path / "a-run")
    client, run = mlflow_run(tmp_path / "store")  # still the only one
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "training/loss")
    assert [entry.step for entry in history] == [1, 2, 3]


class Broken:
    """A tracker whose server is gone after the start."""

    def __init__(self) -> None:
        self.calls = 0

    def begin(self, folder: Path, config: Config) -> None:
        """Nothing yet."""

    def on_event(self, event: Event) -> None:
        self.calls += 1
        raise ConnectionError("no route\nto the server")

    def finish(self, folder: Path, status: Status) -> None:
        raise AssertionError("it was left out before")


def test_a_tracker_that_fails_is_named_once_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    broken = Broken()
    trackers = Trackers({"MLflow": cast(Tracker, broken)}, said.append)
    trackers.begin(tmp_path, CONFIG)
    for event in events_of_a_run():
        trackers.on_event(event)
    trackers.finish(tmp_path, "complete")
    assert said == ["MLflow: no route to the server; the run goes on without it"]
    assert broken.calls == 1


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("tensorboard", OutputSettings(tensorboard=Path("tb"))),
        ("mlflow", OutputSettings(mlflow="somewhere")),
    ],
)
def test_a_missing_package_is_refused_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, name: str, given: OutputSettings
) -> None:
    monkeypatch.setattr(tracker, "find_spec", lambda module: None)
    check_trackers(OutputSettings())
    with pytest.raises(UserError, match=rf"pip install 'ondevice-training\[{name}\]'"):
        check_trackers(given)


def test_scalars_have_the_name_of_what_the_board_counts() -> None:
    for counter, names in (("cycles", ["device/cycles"]), ("", [])):
        scalars = Scalars()
        scalars.of(started(counter=counter))
        found = [scalar.name for scalar in scalars.of(trained(1))]
        assert [name for name in found if name.startswith("device/")] == names


def test_the_command_line_records_a_run_and_survives_a_tracker_without_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(toy_manifest()))
    write_toy_data(tmp_path / "data.npz")
    target = OpenTarget(cast(Device, ToyDevice()), None)
    monkeypatch.setattr(session, "open_target", lambda *given: target)
    (tmp_path / "taken").write_text("no folder")
    arguments = ["train", "--model", "model", "--data", "data.npz", "--steps", "10"]
    arguments += ["--tensorboard", "tb", "--mlflow", "taken"]
    monkeypatch.setattr(sys, "argv", ["ondevice", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "report.html").is_file()
    assert len(tensorboard_scalars(tmp_path / "tb" / folder.name)["training/loss"]) == 10
    text = capsys.readouterr().out
    assert text.count("the run goes on without it") == 1
    assert "tensorboard = " in (folder / "config.toml").read_text()
