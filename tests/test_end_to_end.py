"""The main job as a user runs it: the command line, the firmware, QEMU and the host board."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ondevice import demo
from ondevice.boards import load_board
from ondevice.checkpoint import load_checkpoint
from ondevice.doctor.self_test import run_self_test

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "tests"
STEPS = 50


def ondevice(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ondevice", *arguments]
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )


@cache
def trained(board: str, *options: str) -> tuple[Path, list[dict[str, object]]]:
    """Run folder and events of a short demo run on a board."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder = BUILD / worker / f"{board}{''.join(options)}"
    folder.mkdir(parents=True, exist_ok=True)
    done = ondevice(
        "train", "--board", board, "--steps", str(STEPS), "--json",
        "--output", str(folder), "--build-dir", str(BUILD / worker), *options,
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = sorted(path for path in folder.iterdir() if (path / "checkpoint.npz").is_file())
    return runs[-1], [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("board", ["qemu_f405", "qemu_mps2_an386"])
def test_int8_weights_after_fifty_steps_are_byte_identical_on_host_and_in_qemu(board: str) -> None:
    host = load_checkpoint(trained("host")[0] / "checkpoint.npz")
    simulated = load_checkpoint(trained(board)[0] / "checkpoint.npz")
    assert simulated.model_id == host.model_id
    assert list(simulated.parameter_bytes()) == list(host.parameter_bytes())
    assert simulated.scales == host.scales


def test_a_run_in_qemu_leaves_a_report_with_the_counts_of_every_operator() -> None:
    run, events = trained("qemu_f405")
    page = (run / "report.html").read_text()
    table = page[page.index('id="operator-table"') :].partition("</table>")[0]
    rows = [re.findall(r'<td class="number" data-value="([^"]+)"', r) for r in table.split("<tr>")]
    counts = [float(row[1]) for row in rows if row]
    operators = json.loads((run / "manifest.json").read_text())["ops"]
    assert len(counts) == len(operators)
    steps = [float(str(e["count"])) for e in events if e["event"] == "step"]
    # What is not in an operator is the listing's calls: next to nothing of a step.
    assert 0.99 * np.mean(steps) < sum(counts) < np.mean(steps)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["programs"].keys() == {"arm-none-eabi-gcc", "qemu-system-arm"}


def test_adam_with_a_cosine_schedule_is_byte_identical_on_host_and_in_qemu(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv1d(3, 8, 5, stride=2), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(8 * 8, 4),
    )  # fmt: skip
    exported = torch.export.export(module.eval(), (torch.randn(1, 3, 20),))
    torch.export.save(exported, tmp_path / "small.pt2")
    x = np.random.default_rng(0).standard_normal((32, 3, 20)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(32) % 4, x_test=x[:2], y_test=np.arange(2))
    checkpoints = []
    for board in ("host", "qemu_f405"):
        done = ondevice(
            "train", "--board", board, "--model", "small.pt2", "--data", "data.npz",
            "--optimizer", "adam", "--weight-decay", "0.01", "--clip-norm", "1", "--lr", "0.01",
            "--lr-schedule", "cosine", "--warmup-steps", "5", "--epochs", "1", "--output", board,
            cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (run,) = (tmp_path / board).iterdir()
        checkpoints.append(load_checkpoint(run / "checkpoint.npz"))
    host, simulated = checkpoints
    assert list(simulated.parameter_bytes()) == list(host.parameter_bytes())
    assert simulated.scales == host.scales
    assert dict(zip(host.names, host.arrays, strict=True))["update_steps"].tolist() == [32]


# The stand-in runs the host's firmware, which the tool would refuse: it built another one.
_ANY_FIRMWARE = """
from ondevice import cli, target
target._check_image = lambda device, firmware: None
cli.main()
"""


def test_the_robot_suite_trains_a_board_in_what_stands_in_for_renode(tmp_path: Path) -> None:
    trained("host")
    build = BUILD / os.environ.get("PYTEST_XDIST_WORKER", "main")
    (board,) = build.glob(f"firmware/host-{demo_model_id()[:24]}/out/host/firmware")
    for name, command in (
        ("renode", [sys.executable, str(ROOT / "tests" / "stand_in_renode.py")]),
        ("ondevice", [sys.executable, "-c", _ANY_FIRMWARE]),
    ):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    suite = ROOT / "firmware" / "renode" / "training.robot"
    done = subprocess.run(
        [sys.executable, "-m", "robot", "--variable", f"BUILD DIR:{build}",
         "--test", "The Demo Learns On The F446RE", str(suite)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": path, "STAND_IN_BOARD": str(board)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert list(tmp_path.glob("runs/*/summary.json"))


def demo_model_id() -> str:
    return str(json.loads((trained("host")[0] / "manifest.json").read_text())["model_id"])


def test_the_doctors_self_test_trains_one_step_and_leaves_nothing() -> None:
    trained("host")
    before = set(Path(tempfile.gettempdir()).glob("ondevice-doctor-*"))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    check = run_self_test(load_board("host"), BUILD / worker)
    assert check.ok, check.text
    assert re.fullmatch(r"loss \d+\.\d{3} before, \d+\.\d{3} after", check.text)
    assert set(Path(tempfile.gettempdir()).glob("ondevice-doctor-*")) <= before


def test_fifty_steps_change_the_weights_and_lower_the_loss() -> None:
    folder, _ = trained("host")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["loss_after"] < summary["loss_before"]
    assert summary["steps"] == STEPS


def test_the_measured_arena_equals_the_planned_one_on_the_simulated_board() -> None:
    folder, _ = trained("qemu_f405")
    manifest = json.loads((folder / "manifest.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["arena_measured_bytes"] == manifest["memory"]["arena_bytes"]
    assert 0 < summary["stack_measured_bytes"] <= summary["stack_reserved_bytes"]


def test_a_run_leaves_metrics_manifest_config_checkpoint_and_plot() -> None:
    folder, events = trained("host")
    names = {path.name for path in folder.iterdir()}
    assert {
        "metrics.jsonl", "manifest.json", "config.toml", "checkpoint.npz", "curves.png",
    } <= names  # fmt: skip
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert events
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_checkpoint_evaluates_to_the_accuracy_that_the_run_reported() -> None:
    folder, _ = trained("host")
    summary = json.loads((folder / "summary.json").read_text())
    done = ondevice(
        "eval", "--board", "host", "--checkpoint", str(folder / "checkpoint.npz"), "--json",
        "--build-dir", str(BUILD / os.environ.get("PYTEST_XDIST_WORKER", "main")),
        cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert summary["accuracy_after"] in [event.get("accuracy") for event in events]


def test_a_model_that_does_not_fit_is_refused_with_bytes_and_tensors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    wide = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(64, 4),
    )  # fmt: skip
    exported = torch.export.export(wide.eval(), (torch.randn(1, 3, 64, 64),))
    torch.export.save(exported, tmp_path / "wide.pt2")
    generator = np.random.default_rng(0)
    x = generator.standard_normal((4, 3, 64, 64)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(4), x_test=x, y_test=np.arange(4))
    done = ondevice(
        "compile", "--model", "wide.pt2", "--data", "data.npz", "--board", "nucleo_f446re",
        "-o", "out",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].count("KB") >= 1 or " B" in done.stderr
    assert "too" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_demos_own_data_goes_the_way_of_a_users_data(tmp_path: Path) -> None:
    demo.write_npz(tmp_path / "watch.npz", demo.wearer_split())
    model = Path(demo.__file__).parent / "watch.onnx"
    done = ondevice(
        "train", "--board", "host", "--model", str(model), "--data", "watch.npz", "--steps", "5",
        "--scheme", "last", "--output", "runs",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs").glob("*/checkpoint.npz"))


def test_an_installed_wheel_trains_without_the_checkout(tmp_path: Path) -> None:
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "-w", str(tmp_path), str(ROOT)], check=True)
    (file,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(installed)
    command = [sys.executable, "-m", "ondevice", "train", "--board", "host", "--steps", "5"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"Compiling {installed}" in done.stdout
    assert list((tmp_path / "runs").glob("*/report.html"))  # its templates came along
