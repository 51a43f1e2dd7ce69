"""Own recordings, from CSV files to weights, by the command line, on the host board."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ondevice.checkpoint import load_checkpoint
from ondevice.cli import app
from ondevice.config import load_config
from ondevice.datasets.formats import load_samples

BUILD = Path(__file__).resolve().parent.parent / "build" / "tests"
WINDOW = 32


def write_recordings(folder: Path, seed: int) -> Path:
    """Two classes of a three-axis sensor: slow and fast swings."""
    generator = np.random.default_rng(seed)
    t = np.arange(400)
    for label, period in (("fast", 6), ("slow", 24)):
        (folder / label).mkdir(parents=True)
        for take in range(2):
            swing = np.stack([np.sin(2 * np.pi * t / period), 0 * t, 0 * t + 9.8], axis=1)
            values = swing + generator.normal(0, 0.2, swing.shape)
            np.savetxt(
                folder / label / f"{take}.csv",
                values,
                delimiter=",",
                header="ax,ay,az",
                comments="",
            )
    return folder


def write_model(folder: Path) -> Path:
    import torch
    from torch import nn

    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv1d(3, 6, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2)
    )
    path = folder / "swings.pt2"
    torch.export.save(torch.export.export(model.eval(), (torch.zeros(1, 3, WINDOW),)), path)
    return path


def run(*arguments: str) -> list[dict[str, Any]]:
    build = BUILD / os.environ.get("PYTEST_XDIST_WORKER", "main")
    done = CliRunner().invoke(app, [*arguments, "--build-dir", str(build), "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, Any]]]:
    """The recordings, the run's folder and what was said."""
    folder = tmp_path_factory.mktemp("own")
    data, model = write_recordings(folder / "swings", 1), write_model(folder)
    said = run(
        "train", "--model", str(model), "--data", str(data), "--window", str(WINDOW),
        "--normalise", "standard", "--board", "host", "--epochs", "4", "--lr", "0.05",
        "--output", str(folder / "runs"),
    )  # fmt: skip
    return data, Path(said[-1]["run"]), said


def test_csv_folders_train_and_eval_measures_the_same_again(
    trained: tuple[Path, Path, list[dict[str, Any]]],
) -> None:
    _, folder, said = trained
    after = next(r for r in said if r["event"] == "evaluate" and r["moment"] == "after")
    assert after["accuracy"] >= 0.9
    (measured,) = run("eval", "--checkpoint", str(folder / "checkpoint.npz"))
    assert (measured["accuracy"], measured["loss"]) == (after["accuracy"], after["loss"])
    assert np.trace(after["confusion"]) == after["correct"]
    assert np.sum(after["confusion"]) == after["samples"]


def test_other_data_are_measured_by_the_runs_own_network(
    trained: tuple[Path, Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    _, folder, _ = trained
    other = write_recordings(tmp_path / "next_week", 2)
    for file in (other / "fast").iterdir():
        file.unlink()  # the classes keep their numbers
    (measured,) = run("eval", "--checkpoint", str(folder / "checkpoint.npz"), "--data", str(other))
    assert measured["accuracy"] >= 0.9
    rows = np.array(measured["confusion"])
    assert rows[0].sum() == 0
    assert rows[1].sum() == measured["samples"]


def test_the_same_windows_from_an_npz_file_give_the_same_weights(
    trained: tuple[Path, Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    data, folder, _ = trained
    before = load_config(folder / "config.toml")
    samples, _ = load_samples(data, before)
    arrays = {key: getattr(samples, key) for key in ("x", "y", "x_test", "y_test")}
    np.savez(tmp_path / "swings.npz", class_names=np.array(samples.class_names), **arrays)
    (*_, summary) = run(
        "train", "--config", str(folder / "config.toml"), "--data", str(tmp_path / "swings.npz"),
        "--normalise", "none", "--output", str(tmp_path / "runs"),
    )  # fmt: skip
    first, second = (
        load_checkpoint(path / "checkpoint.npz") for path in (folder, Path(summary["run"]))
    )
    assert first.parameter_bytes() == second.parameter_bytes()
