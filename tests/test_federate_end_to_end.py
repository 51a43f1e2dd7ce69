"""`ondevice federate run` as a user has it: Flower, Ray, a process for each board."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ondevice.checkpoint import load_checkpoint
from small_networks import NETWORKS, labels

TIMEOUT_S = 300
CLIENTS = 3
OPTIONS = (
    *("--model", "net.pt2", "--client-data", "people", "--clients", str(CLIENTS)),
    *("--compress", "topk", "--compress-ratio", "0.1", "--lr", "0.02", "--build-dir", "build"),
)


def ondevice(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    code = "from ondevice.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        end(process)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def end(process: subprocess.Popen[str]) -> None:
    """With Ray's processes and boards, which are of its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and three people's data."""
    import torch

    folder = tmp_path_factory.mktemp("federation")
    network = NETWORKS["perceptron"]
    example = torch.from_numpy(network.samples(1))
    torch.export.save(torch.export.export(network.module(), (example,)), folder / "net.pt2")
    (folder / "people").mkdir()
    for index in range(CLIENTS):
        x, y = network.samples(20 + index, seed=index), np.asarray(labels(20 + index))
        place = folder / "people" / f"person-{index}.npz"
        np.savez(place, x=x, y=y, x_test=x[:5], y_test=y[:5])
    return folder


@pytest.fixture(scope="module")
def through(project: Path) -> tuple[list[dict[str, Any]], Path]:
    """Four rounds without interruption."""
    records, _ = finished(ondevice(project, "federate", "run", *OPTIONS, "--rounds", "4", "--json"))
    return records, project / records[-1]["run"]


def test_a_run_gives_its_rounds_as_json_and_a_folder(
    through: tuple[list[dict[str, Any]], Path],
) -> None:
    records, folder = through
    rounds = [record for record in records if record["event"] == "round"]
    assert [record["round"] for record in rounds] == [1, 2, 3, 4]
    assert {record["answered"] for record in rounds} == {CLIENTS}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary == {k: v for k, v in records[-1].items() if k not in ("event", "run")}
    assert summary["update_bytes"] < summary["dense_update_bytes"] / 4
    assert summary["failures"] == 0
    written = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert written == records[:-1]
    assert (folder / "curves.png").stat().st_size > 1000


def test_the_last_weights_are_a_checkpoint_of_the_model(
    through: tuple[list[dict[str, Any]], Path],
) -> None:
    _, folder = through
    manifest = json.loads((folder / "manifest.json").read_text())
    checkpoint = load_checkpoint(folder / "checkpoint.npz")
    assert checkpoint.model_id == manifest["model_id"]
    assert checkpoint.step == 4


def test_a_server_killed_within_a_round_goes_on_to_the_same_weights(
    project: Path, through: tuple[list[dict[str, Any]], Path]
) -> None:
    """Kill -9 of everything, boards and Ray included, as soon as the second round is saved."""
    process = ondevice(
        project, "federate", "run", *OPTIONS, "--rounds", "4", "--run-name", "killed", "--json"
    )
    try:
        assert process.stdout is not None
        deadline_s = time.monotonic() + TIMEOUT_S
        for line in process.stdout:
            record = json.loads(line)
            if record["event"] == "evaluated" and record["round"] == 2:
                break
            assert time.monotonic() < deadline_s
    finally:
        end(process)
        process.communicate()
    (folder,) = (project / "runs").glob("*-killed")
    assert not (folder / "summary.json").exists()
    finished(ondevice(project, "federate", "run", "--resume", str(folder), "--json"))
    wanted = load_checkpoint(through[1] / "checkpoint.npz")
    found = load_checkpoint(folder / "checkpoint.npz")
    assert found.parameter_bytes() == wanted.parameter_bytes()
    rounds = (folder / "rounds.jsonl").read_text().splitlines()
    numbers = [r["round"] for r in map(json.loads, rounds) if r["event"] == "round"]
    assert numbers == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--resume", "nowhere"), "holds no federated run"),
        (("--boards", "nucleo_f446re*8"), "serve"),
        (("--client-data", "missing"), "cannot read"),
    ],
)
def test_a_wrong_setting_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    process = ondevice(tmp_path, "federate", "run", *arguments)
    try:
        _, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        end(process)
    assert process.returncode == 1
    assert complaint in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
