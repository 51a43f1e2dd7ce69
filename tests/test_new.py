"""A new project trains as it stands, and is made whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ondevice.cli import app
from ondevice.errors import UserError
from ondevice.new import example_data
from ondevice.new.project import TEMPLATES, make_project

BUILD = Path(__file__).resolve().parent.parent / "build" / "tests" / "new"


def run(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, [*arguments, "--json", "--build-dir", str(BUILD)])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_project_is_checked_and_learns_as_it_stands(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    done = CliRunner().invoke(app, ["new", str(folder), "--template", template, "--board", "host"])
    assert done.exit_code == 0, done.output
    monkeypatch.chdir(folder)
    (report,) = run("check")
    assert report["findings"] == []
    *_, summary = run("train")
    assert summary["accuracy_before"] < 0.5
    assert summary["accuracy_after"] > 0.9


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_model_of_a_template_is_what_its_script_writes(
    template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runpy

    import onnx

    make_project(tmp_path / "mine", template, "host")
    monkeypatch.chdir(tmp_path / "mine")
    shipped = onnx.load("model.onnx").graph
    runpy.run_path("model.py", run_name="__main__")
    written = onnx.load("model.onnx").graph
    assert [node.op_type for node in written.node] == [node.op_type for node in shipped.node]
    assert written.input == shipped.input
    assert written.output == shipped.output


def test_a_project_is_not_made_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        make_project(tmp_path, "motion", "host")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_cannot_be_made_whole_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(example_data.EXAMPLE_DATA, "motion", full)
    with pytest.raises(UserError, match="No space left"):
        make_project(tmp_path / "mine", "motion", "host")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_board_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["new", str(tmp_path / "mine"), "--board", "bord"])
    assert done.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    make_project(tmp_path, "tabular", "qemu_f405")
    assert 'board = "qemu_f405"' in (tmp_path / "ondevice.toml").read_text()
    assert tmp_path.name in (tmp_path / "README.md").read_text()
