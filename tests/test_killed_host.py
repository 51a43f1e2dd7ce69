"""The command line killed in the middle of a run, and the run that goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ondevice.checkpoint import load_checkpoint
from ondevice.errors import UserError
from ondevice.recorded_run import load_recorded_run

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "tests"
STEPS = 80
OPTIONS = ("--steps", str(STEPS), "--checkpoint-every", str(STEPS // 8))


def command(*arguments: str) -> list[str]:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    build = str(BUILD / worker)
    return [sys.executable, "-m", "ondevice", "train", "--build-dir", build, *arguments]


def run(*arguments: str) -> None:
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def records(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def kill_at_step(step: int, *arguments: str, output: Path) -> Path:
    """Starts a run and kills it with SIGKILL once that step is recorded; returns its folder."""
    process = subprocess.Popen(
        command(*arguments, "--output", str(output)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 900  # an end for a run that hangs, not a measure
    while time.monotonic() < deadline and process.poll() is None:
        for folder in output.glob("*"):
            metrics = folder / "metrics.jsonl"
            if metrics.is_file() and f'"step": {step},' in metrics.read_text():
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return folder
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"the run did not come to step {step}: {process.communicate()[1]}")


@cache
def undisturbed() -> Path:
    """Folder of a run on the host board, whose int8 weights are those of every board."""
    folder = BUILD / os.environ.get("PYTEST_XDIST_WORKER", "main") / "undisturbed"
    run("--board", "host", *OPTIONS, "--output", str(folder))
    return max(folder.iterdir())


@pytest.mark.parametrize("board", ["host", "qemu_f405"])
def test_a_run_whose_host_is_killed_ends_with_the_weights_of_an_undisturbed_one(
    board: str, tmp_path: Path
) -> None:
    folder = kill_at_step(STEPS // 4, "--board", board, *OPTIONS, output=tmp_path)
    assert not any(record["event"] == "end" for record in records(folder))
    run("--resume", str(folder))
    expected, found = (load_checkpoint(path / "checkpoint.npz") for path in (undisturbed(), folder))
    assert found.step == STEPS
    assert found.parameter_bytes() == expected.parameter_bytes()
    assert found.scales == expected.scales
    assert (folder / "summary.json").is_file()
    losses = [
        {r["step"]: r["loss"] for r in records(path) if r["event"] == "step"}
        for path in (undisturbed(), folder)
    ]
    assert losses[0] == losses[1]  # the last of each step; those after a checkpoint came twice
    (went_on,) = [record for record in records(folder) if record["event"] == "went_on"]
    assert went_on["step"] in range(STEPS // 4 - STEPS // 8, STEPS)
    assert went_on["origin"] == "board"  # which has started again from its own flash
    with pytest.raises(UserError, match="this run is complete"):
        load_recorded_run(folder)
