"""The command line: exit codes, one line a fault, JSON lines, and what Ctrl-C leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ondevice import cli, session
from ondevice.checkpoint import load_checkpoint
from ondevice.link.device import Device
from ondevice.target import OpenTarget
from ondevice_compiler.model_files import MODEL_SUFFIXES
from toy_training import ToyDevice, toy_manifest, write_toy_data

Invoke = Callable[..., int]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ToyDevice:
    """Puts the toy device behind the command line; the working directory is empty but for it."""
    toy = ToyDevice()
    _plug_in(monkeypatch, toy)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(toy_manifest()))
    write_toy_data(tmp_path / "data.npz")
    return toy


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs `ondevice ARGUMENTS` in this process; returns its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["ondevice", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


TRAIN = ("train", "--model", "model", "--data", "data.npz", "--lr", "0.5", "--seed", "3")


def test_training_reports_and_leaves_a_run_folder(
    device: ToyDevice, invoke: Invoke, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert invoke(*TRAIN, "--epochs", "2", "--run-name", "first") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-first")
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.npz",
        "config.toml",
        "curves.png",
        "environment.json",
        "manifest.json",
        "metrics.jsonl",
        "report.html",
        "summary.json",
    ]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 40
    assert summary["count_per_step"] == 1000
    assert summary["accuracy_after"] > summary["accuracy_before"]
    text = capsys.readouterr().out
    assert "instructions a training step" in text
    assert "Before training: accuracy" in text
    assert device.closed


def test_json_output_is_one_object_a_line_and_text_goes_to_stderr(
    device: ToyDevice, invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(*TRAIN, "--steps", "250", "--json") == 0
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    kinds = [record["event"] for record in records]
    assert kinds[:2] == ["start", "evaluate"]
    assert kinds[-3:] == ["evaluate", "end", "summary"]
    steps = [record["step"] for record in records if record["event"] == "step"]
    assert steps == [*range(3, 250, 3), 250]
    assert "Before training" in captured.err


def test_the_same_seed_trains_to_the_same_checkpoint(
    monkeypatch: pytest.MonkeyPatch, device: ToyDevice, invoke: Invoke, tmp_path: Path
) -> None:
    for _ in range(2):
        _plug_in(monkeypatch, ToyDevice())
        assert invoke(*TRAIN, "--steps", "30") == 0
    first, second = (tmp_path / "runs").glob("*/checkpoint.npz")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("unplug_at_step", [25, 5])
def test_a_run_is_resumed_in_its_folder_with_its_settings(
    monkeypatch: pytest.MonkeyPatch,
    device: ToyDevice,
    invoke: Invoke,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    unplug_at_step: int,
) -> None:
    assert invoke(*TRAIN, "--steps", "3") == 0
    (begun,) = (tmp_path / "runs").iterdir()
    arguments = (*TRAIN, "--epochs", "2", "--checkpoint", str(begun / "checkpoint.npz"))
    assert invoke(*arguments, "--output", "whole") == 0
    (whole,) = (tmp_path / "whole").iterdir()
    _plug_in(monkeypatch, ToyDevice(unplug_at_step=unplug_at_step))
    assert invoke(*arguments, "--output", "broken") == 1
    (broken,) = (tmp_path / "broken").iterdir()
    (begun / "checkpoint.npz").unlink()  # the run folder has its own copy
    _plug_in(monkeypatch, ToyDevice())  # which holds nothing of the run
    capsys.readouterr()
    assert invoke("train", "--resume", str(broken)) == 0
    text = capsys.readouterr().out
    assert ("after step 20" if unplug_at_step > 20 else "after step 0 from the start") in text
    first, second = (load_checkpoint(folder / "checkpoint.npz") for folder in (whole, broken))
    assert first.parameter_bytes() == second.parameter_bytes()
    assert json.loads((broken / "summary.json").read_text())["steps"] == 40
    assert list((tmp_path / "broken").iterdir()) == [broken]
    assert invoke("train", "--resume", str(broken)) == 1
    assert "this run is complete" in capsys.readouterr().err


def test_a_resumed_run_takes_no_other_settings(
    device: ToyDevice, invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke("train", "--resume", "runs/none") == 1
    assert "no metrics.jsonl there" in capsys.readouterr().err
    assert invoke("train", "--resume", "runs/none", "--lr", "0.5") == 2
    assert "keeps the settings of its run" in capsys.readouterr().err


def test_a_checkpoint_is_evaluated_with_the_settings_of_its_run(
    monkeypatch: pytest.MonkeyPatch,
    device: ToyDevice,
    invoke: Invoke,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert invoke(*TRAIN, "--epochs", "3") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    _plug_in(monkeypatch, ToyDevice())
    capsys.readouterr()
    assert invoke("eval", "--checkpoint", str(folder / "checkpoint.npz"), "--json") == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["accuracy"] == summary["accuracy_after"]
    assert measured["loss"] == pytest.approx(summary["loss_after"])


def _nan(folder: Path) -> None:
    write_toy_data(folder / "data.npz", x=np.full((20, 3), np.nan))


def _label(folder: Path) -> None:
    write_toy_data(folder / "data.npz", y=np.full(20, 7))


def _no_data(folder: Path) -> None:
    (folder / "data.npz").unlink()


def _no_model(folder: Path) -> None:
    (folder / "model" / "manifest.json").unlink()


def _other_manifest(folder: Path) -> None:
    text = json.dumps(toy_manifest(model_id="ee" * 16))
    (folder / "model" / "manifest.json").write_text(text)


def _too_big(folder: Path) -> None:
    manifest = toy_manifest()
    manifest["memory"]["ram_bytes"] = 1000_000
    (folder / "model" / "manifest.json").write_text(json.dumps(manifest))


def _bad_config(folder: Path) -> None:
    (folder / "run.toml").write_text("[training]\nlearning_rat = 1\n")


@pytest.mark.parametrize(
    ("spoil", "extra", "message"),
    [
        (_nan, (), "data.npz: x[0, 0] is nan"),
        (_label, (), "data.npz: y[0] is 7; allowed labels: 0 to 1; model 'toy' has 2 classes"),
        (_no_data, (), "data.npz: no such file"),
        (_no_model, (), "a compiled model is made by `ondevice compile -o DIR`"),
        (_other_manifest, (), "runs model 'toy' (00010203"),
        (_bad_config, ("--config", "run.toml"), "unknown key in [training]: 'learning_rat'"),
        (lambda _: None, ("--run-name", "../x"), "run name '../x': allowed are"),
        (lambda _: None, ("--output", "data.npz"), "data.npz: cannot write results there"),
        (lambda _: None, ("--checkpoint", "none.npz"), "none.npz: no such checkpoint"),
        (lambda _: None, ("--checkpoint", "data.npz"), "data.npz: not a checkpoint"),
        (lambda _: None, ("--momentum", "2"), "model.momentum = 2.0: must be at least"),
        (lambda _: None, ("--model", "none.onnx"), "none.onnx: no such model"),
    ],
)
def test_a_users_fault_is_one_line_exit_code_1_and_leaves_no_run(
    device: ToyDevice,
    invoke: Invoke,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    spoil: Callable[[Path], object],
    extra: tuple[str, ...],
    message: str,
) -> None:
    spoil(tmp_path)
    assert invoke(*TRAIN, "--json", *extra) == 1
    captured = capsys.readouterr()
    faults = [line for line in captured.err.splitlines() if line.startswith("ondevice: ")]
    assert len(faults) == 1
    assert message in faults[0]
    assert captured.err.splitlines()[-1] == faults[0]
    assert captured.out == ""
    assert device.trained_on == []
    assert not list((tmp_path / "runs").glob("*/*"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_unplugged_board_is_one_line_and_keeps_the_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
    device: ToyDevice,
    invoke: Invoke,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    broken = ToyDevice(unplug_at_step=25)
    _plug_in(monkeypatch, broken)
    assert invoke(*TRAIN, "--epochs", "2") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unplugged" in error
    (checkpoint,) = (tmp_path / "runs").glob("*/checkpoint.npz")
    assert load_checkpoint(checkpoint).step == 20
    assert broken.closed


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--steps", "1", "--epochs", "1"),
        ("train", "--steps", "0"),
        ("train", "--dtype", "int4"),
        ("train", "--nonsense"),
        ("nonsense",),
        ("info",),
    ],
)
def test_wrong_usage_exits_with_2(
    invoke: Invoke, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert invoke(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", ["train", "compile", "build", "flash", "eval", "info", "boards", "ports"]
)
def test_every_verb_explains_itself(
    invoke: Invoke, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert invoke(verb, "--help") == 0
    assert f"ondevice {verb}" in capsys.readouterr().out


def test_an_unknown_board_is_one_line_that_lists_the_boards(
    invoke: Invoke, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ondevice.boards")
    assert invoke("train", "--board", "arduino") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "arduino" in error
    assert "qemu_f405" in error


def test_info_describes_models_runs_and_checkpoints(
    device: ToyDevice, invoke: Invoke, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert invoke(*TRAIN, "--steps", "5") == 0
    (folder,) = (tmp_path / "runs").iterdir()
    capsys.readouterr()
    assert invoke("info", str(folder)) == 0
    text = capsys.readouterr().out
    assert "toy (00010203" in text
    assert "completed 5 steps on toyboard" in text
    assert invoke("info", str(folder / "checkpoint.npz")) == 0
    assert "fc.weight float32 [2, 3]" in capsys.readouterr().out


# The real tool in a process of its own, on the link's fake device: the C session and a fake model.
_CHILD = """
import sys
from pathlib import Path
from ondevice import cli, session
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport
from ondevice.link.device import Device
from ondevice.target import OpenTarget
from ondevice_compiler.model_files import MODEL_SUFFIXES
program = sys.argv.pop(1)
session.target_board = lambda settings, connect=True: None
session.open_target = lambda *_: OpenTarget(Device(ProcessTransport([program])), None)
cli.main()
"""


def test_ctrl_c_finishes_the_step_and_leaves_a_usable_checkpoint(
    compile_c: Callable[[str], Path], tmp_path: Path
) -> None:
    process = _start_child(compile_c("fake_device"), tmp_path)
    metrics = _wait_for_lines(process, tmp_path, 50)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert records[-1] == {"event": "end", "step": records[-2]["step"], "interrupted": True}
    assert "did not come to its end" in (metrics.parent / "report.html").read_text()
    checkpoint = load_checkpoint(metrics.parent / "checkpoint.npz")
    assert checkpoint.step == records[-1]["step"] >= 1
    # The fake model counts its training steps in its first weight.
    assert checkpoint.arrays[0][0] == checkpoint.step


def test_a_device_that_dies_is_one_line(compile_c: Callable[[str], Path], tmp_path: Path) -> None:
    process = _start_child(compile_c("fake_device"), tmp_path)
    _wait_for_lines(process, tmp_path, 50)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    (fault,) = [line for line in error.splitlines() if line.startswith("ondevice: ")]
    assert "was ended by signal 9" in fault
    (report,) = tmp_path.glob("**/report.html")  # of what is known of a run that failed
    assert "did not come to its end" in report.read_text()
    assert "Traceback" not in error


def _start_child(program: Path, folder: Path) -> "subprocess.Popen[str]":
    manifest = toy_manifest(
        optimizer={"name": "sgd", "momentum": 0.0, "accumulation_steps": 2},
        parameters=[
            {"name": "fc.weight", "shape": [4], "dtype": "int32", "bytes": 16},
            {"name": "fc.table", "shape": [3000], "dtype": "uint8", "bytes": 3000},
        ],
    )
    shape = [1, 1, 1, 150]
    manifest["input"].update(source_shape=[1, 150], shape=shape, memory_shape=shape, bytes=600)
    (folder / "model").mkdir()
    (folder / "model" / "manifest.json").write_text(json.dumps(manifest))
    samples: dict[str, Any] = {key: np.zeros((8, 150), np.float32) for key in ("x", "x_test")}
    write_toy_data(folder / "data.npz", y=np.arange(8) % 2, y_test=np.arange(8) % 2, **samples)
    arguments = ("--model", "model", "--data", "data.npz", "--steps", "1000000", "--json")
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(program), "train", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for_lines(process: "subprocess.Popen[str]", folder: Path, count: int) -> Path:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for metrics in folder.glob("runs/*/metrics.jsonl"):
            if metrics.read_bytes().count(b"\n") >= count:
                return metrics
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"no training steps: {process.communicate()[1]}")


def _plug_in(monkeypatch: pytest.MonkeyPatch, toy: ToyDevice) -> None:
    monkeypatch.setattr(session, "target_board", lambda settings, connect=True: None)
    monkeypatch.setattr(session, "open_target", lambda *_: OpenTarget(cast(Device, toy), None))


@pytest.mark.parametrize("suffix", MODEL_SUFFIXES)
def test_every_kind_of_model_that_the_compiler_loads_gets_as_far_as_its_loader(
    device: ToyDevice, invoke: Invoke, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    Path(f"broken{suffix}").write_bytes(b"nothing")
    assert invoke("compile", "--model", f"broken{suffix}", "--data", "data.npz") == 1
    error = capsys.readouterr().err
    assert f"broken{suffix}" in error
    assert "unknown kind" not in error


def test_the_command_line_starts_without_what_takes_seconds_to_import() -> None:
    code = (
        "import sys, ondevice.cli; "
        "print([m for m in ('tvm', 'torch', 'matplotlib', 'onnx', 'cv2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
