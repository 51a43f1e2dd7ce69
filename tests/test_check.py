"""`ondevice check`: all that is wrong at once, and what is needed, before anything is built."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ondevice.build import build_firmware
from ondevice.check.data_findings import data_findings, range_findings
from ondevice.check.findings import RUNTIME_RAM_BYTES
from ondevice.cli import app
from ondevice.config import Config, DeviceSettings
from ondevice.data import Dataset
from ondevice.session import prepare

BUILD = Path(__file__).resolve().parent.parent / "build" / "tests" / "check"


def check(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["check", *arguments, "--json", "--build-dir", str(BUILD)])
    return done.exit_code, json.loads(done.stdout)


def write_data(path: Path, shape: tuple[int, ...], classes: int) -> Path:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8 * classes, *shape)).astype(np.float32)
    y = np.arange(8 * classes) % classes
    np.savez(path, x=x, y=y, x_test=x, y_test=y)
    return path


def test_what_fits_is_said_with_the_linkers_ram(tmp_path: Path) -> None:
    code, report = check("--board", "qemu_f405")
    assert code == 0
    assert report["findings"] == []
    config = Config(device=DeviceSettings(board="qemu_f405"))
    prepared = prepare(config, BUILD, lambda line: None)
    memory = prepared.model.manifest["memory"]
    planned = {key: report["need"]["memory"][key] for key in ("arena_bytes", "parameter_bytes")}
    assert planned == {key: memory[key] for key in planned}
    assert 0.75 < report["need"]["const_bytes"] / memory["const_bytes"] <= 1  # tables come on top
    assert prepared.board is not None
    folder = tmp_path / "firmware"
    folder.mkdir()
    firmware = build_firmware(prepared.model.path, prepared.board, folder, None, None)
    needed = memory["ram_bytes"] + RUNTIME_RAM_BYTES + prepared.board.stack_bytes
    assert firmware.ram_bytes == pytest.approx(needed, rel=0.02)


def test_what_does_not_fit_names_schemes_and_boards_that_do() -> None:
    code, report = check("--board", "qemu_microbit")
    assert code == 1
    assert report["findings"][0]["severity"] == "error"
    assert "B too many" in report["findings"][0]["what"]
    assert [need["scheme"] for need in report["schemes"]] == ["last-2", "bias", "last"]
    assert "qemu_f405" in report["boards"]
    assert "qemu_microbit" not in report["boards"]
    assert check("--board", "qemu_microbit", "--scheme", "last-2")[0] == 0


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    from ondevice.sources import demo_model

    data = write_data(tmp_path / "data.npz", (100, 6), 9)
    model = str(demo_model())
    code, report = check("--model", model, "--data", str(data), "--board", "bord")
    assert code == 1
    said = " | ".join(finding["what"] for finding in report["findings"])
    for words in ("unknown board 'bord'", "samples are [100, 6]", "--layout", "--head 9"):
        assert words in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "none.onnx"), "no such model"),
        (("--data", "none.csv"), "no such file"),
        (("--scheme", "last-9"), "the model has 5 layers"),
        (("--model", __file__), "a model of your own needs its data"),
    ],
)
def test_what_cannot_be_read_is_a_finding(arguments: tuple[str, ...], words: str) -> None:
    code, report = check(*arguments)
    assert code == 1
    assert words in report["findings"][0]["what"]


def dataset(y: list[int]) -> Dataset:
    x = np.zeros((len(y), 3), np.float32)
    return Dataset(x, np.array(y), x, np.array(y))


def words_of(data: Dataset, outputs: int = 3) -> str:
    found = data_findings(data, (3,), outputs, "cross_entropy")
    return " | ".join(finding.what for finding in found)


def test_rare_and_missing_classes_are_warned_of() -> None:
    assert words_of(dataset([0] * 9 + [1] * 9 + [2] * 9)) == ""
    assert "few training samples of 2 (1)" in words_of(dataset([0] * 9 + [1] * 9 + [2]))
    assert "the others are never trained" in words_of(dataset([0, 1] * 9))
    assert "0 has 90 training samples, 1 6" in words_of(dataset([0] * 90 + [1] * 6 + [2] * 20))


def test_values_that_int8_would_clip_are_counted() -> None:
    data = dataset([0] * 100)
    assert list(range_findings(data, -1, 1)) == []
    data.x[:30] = 2
    (found, _) = range_findings(data, -1, 1)
    assert "30.0 % of the training values lie outside -1 to 1" in found.what


def test_the_text_says_what_to_do_next() -> None:
    said = CliRunner().invoke(app, ["check", "--build-dir", str(BUILD)]).stdout
    for words in ("takes [6, 100], gives 7", "in all", "Nothing is wrong"):
        assert words in said
