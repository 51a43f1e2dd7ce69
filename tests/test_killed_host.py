"""The command line killed in the middle of a run, and the run that goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ondevice.checkpoint import load_checkpoint
from ondevice.config import Config, DeviceSettings, OutputSettings, TrainingSettings
from ondevice.errors import UserError
from ondevice.events import Event, LinkLost, StepTrained, WentOn
from ondevice.recorded_run import RecordedRun, load_recorded_run
from ondevice.session import RunResult, prepare, train_once

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "tests"
STEPS = 80
OPTIONS = ("--steps", str(STEPS), "--checkpoint-every", str(STEPS // 8))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ondevice", "train", "--build-dir", str(build()), *arguments]


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


def build() -> Path:
    return BUILD / os.environ.get("PYTEST_XDIST_WORKER", "main")


def settings(output: Path) -> Config:
    return Config(
        device=DeviceSettings(board="host", flash_file=output / "flash.bin"),
        training=TrainingSettings(steps=STEPS, checkpoint_every_steps=STEPS // 8),
        output=OutputSettings(directory=output / "runs"),
    )


def train_here(
    config: Config,
    on_event: Callable[[Event], None] = lambda event: None,
    recorded: RecordedRun | None = None,
) -> RunResult:
    """As the command line does, in this process."""
    prepared = prepare(config, build(), print)
    return train_once(config, prepared, build(), on_event, lambda: False, print, resumed=recorded)


@cache
def undisturbed() -> Path:
    """Folder of a run on the host board, whose int8 weights are those of every board."""
    output = build() / "undisturbed"
    output.mkdir(parents=True, exist_ok=True)
    return train_here(settings(output)).folder


@pytest.mark.parametrize("board", ["host", "qemu_f405"])
def test_a_run_whose_host_is_killed_ends_with_the_weights_of_an_undisturbed_one(
    board: str, tmp_path: Path
) -> None:
    folder = kill_at_step(STEPS // 4, "--board", board, *OPTIONS, output=tmp_path)
    assert not any(record["event"] == "end" for record in records(folder))
    if board == "host":
        recorded = load_recorded_run(folder)
        train_here(recorded.config, recorded=recorded)
    else:
        done = subprocess.run(command("--resume", str(folder)), cwd=ROOT, capture_output=True)
        assert done.returncode == 0, done.stderr
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


def test_a_board_that_dies_goes_on_from_its_flash_when_it_is_started_again(tmp_path: Path) -> None:
    events: list[Event] = []

    def kill_the_board(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepTrained) and event.step == STEPS // 2 + 3 and not lost(events):
            (board,) = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            os.kill(int(board), signal.SIGKILL)

    result = train_here(settings(tmp_path), kill_the_board)
    assert len(lost(events)) == 1
    (went_on,) = [event for event in events if isinstance(event, WentOn)]
    assert went_on == WentOn(STEPS // 2, STEPS // 2 + 3, "board")
    assert result.checkpoint is not None
    found, expected = (
        load_checkpoint(path) for path in (result.checkpoint, undisturbed() / "checkpoint.npz")
    )
    assert found.parameter_bytes() == expected.parameter_bytes()
    assert found.scales == expected.scales
    assert result.summary["reconnects"] == 1


def lost(events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, LinkLost)]
