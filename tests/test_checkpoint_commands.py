"""`ondevice checkpoint ...` on a board in a process whose flash lasts as long as that."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ondevice import checkpoint_commands, cli
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def board(fake_device: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """Open for all commands of one test."""
    device = Device(ProcessTransport([str(fake_device), "flash"]))
    _plug_in(monkeypatch, device)
    yield device
    Device.close(device)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `ondevice checkpoint ARGUMENTS`; returns exit code, standard output and error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ondevice", "checkpoint", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return command


def test_what_was_saved_is_listed_with_the_newest_and_the_best(board: Device, run: Run) -> None:
    assert run("list") == (0, "The board has no checkpoint of this model\n", "")
    assert run("save", "--loss", "0.5") == (0, "Saved as checkpoint 1\n", "")
    assert run("save")[1] == "Saved as checkpoint 2\n"
    code, text, _ = run("list")
    assert code == 0
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert ["2" in rows[0], "newest" in rows[0], "best" in rows[0]] == [True, True, False]
    assert ["0.5" in rows[1], "newest" in rows[1], "best" in rows[1]] == [True, False, True]
    assert "Two banks of 16,384 B, erased 1 and 0 times; a checkpoint takes 3,144 B" in text


def test_rolling_back_makes_the_best_the_newest(board: Device, run: Run) -> None:
    weights = board.read_parameters()
    run("save", "--loss", "0.5")
    board.write_input(bytes(600))
    board.write_label(bytes(4))
    board.train(0.25)
    run("save", "--loss", "0.75")
    assert board.read_parameters() != weights
    text = run("rollback")[1]
    assert text == "Back at checkpoint 1, loss 0.5, 0 steps, saved again as checkpoint 3\n"
    assert board.read_parameters() == weights
    assert [c.sequence for c in board.checkpoints() if c.newest] == [3]
    assert run("rollback")[1].endswith("which is the newest\n")  # of two equal ones the later
    assert run("rollback", "--to", "2")[1].startswith("Back at checkpoint 2, loss 0.75, 1 steps")
    assert board.read_parameters() != weights


def test_every_verb_speaks_json(board: Device, run: Run) -> None:
    def said(*arguments: str) -> Any:
        code, text, _ = run(*arguments, "--json")
        assert code == 0
        return json.loads(text)

    assert said("save") == {"event": "saved", "sequence": 1}
    assert said("load", "newest")["sequence"] == 1
    listed = said("list")
    assert [c["newest"] for c in listed["checkpoints"]] == [True]
    assert listed["checkpoints"][0]["loss"] is None
    assert said("rollback", "--to", "1")["saved_as"] == 1
    assert said("erase") == {"event": "erased"}
    assert said("list") == {"event": "checkpoints", "checkpoints": []}


def test_mistakes_are_one_line(board: Device, run: Run) -> None:
    code, _, error = run("load", "best")
    assert (code, error.count("\n")) == (1, 1)
    assert "no such checkpoint" in error
    for wrong in ("0", "latest", "4294967295"):
        code, _, error = run("load", wrong)
        assert code == 2
        assert "newest, best, or a number" in error


def test_a_board_without_flash_is_told_which_key_it_lacks(
    fake_device: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    with Device(ProcessTransport([str(fake_device)])) as device:
        _plug_in(monkeypatch, device)
        code, _, error = run("list")
        Device.close(device)
    assert code == 1
    assert "fake_board" in error
    assert "storage_bank_bytes" in error


def _plug_in(monkeypatch: pytest.MonkeyPatch, device: Device) -> None:
    manifest = {"model_id": bytes(range(16)).hex(), "name": "fake"}
    prepared = SimpleNamespace(board=None, model=SimpleNamespace(manifest=manifest))
    monkeypatch.setattr(checkpoint_commands, "prepare", lambda *_: prepared)
    monkeypatch.setattr(
        checkpoint_commands, "open_target", lambda *_: SimpleNamespace(device=device)
    )
    monkeypatch.setattr(device, "close", lambda: None)  # open for the next command
