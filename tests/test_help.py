"""Every verb's help has examples that parse, every mistake its exit code, and Tab completes."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from ondevice.boards import list_boards
from ondevice.cli import app

GROUP: Any = typer.main.get_command(app)  # of typer's own click


Words = tuple[str, ...]


def verbs(command: Any = GROUP, path: Words = ()) -> Iterator[tuple[Words, Any]]:
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from verbs(inner, (*path, name))


VERBS = dict(verbs())
every_verb = pytest.mark.parametrize("path", VERBS, ids=" ".join)


@every_verb
def test_the_help_of_a_verb_says_what_it_does_and_gives_an_example(path: Words) -> None:
    said = CliRunner().invoke(app, [*path, "--help"]).stdout
    assert "Example" in said
    assert f"ondevice {' '.join(path)}" in said
    assert VERBS[path].help


@every_verb
def test_the_examples_of_a_verb_are_commands_that_it_takes(path: Words) -> None:
    lines = [line.strip() for line in VERBS[path].epilog.split("\n\n")[1:]]
    assert lines
    for line in lines:
        tool, *words = shlex.split(line)
        assert tool == "ondevice"
        assert tuple(words[: len(path)]) == path
        with VERBS[path].make_context(" ".join(path), words[len(path) :]) as context:
            assert context.params is not None


@every_verb
def test_an_option_that_no_verb_has_is_a_usage_error(path: Words) -> None:
    done = CliRunner().invoke(app, [*path, "--no-such-option"])
    assert done.exit_code == 2


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "ondevice", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--config", "none.toml"),
        ("check", "--board", "none"),
        ("compile", "--model", "none.onnx"),
        ("info", "none"),
        ("eval", "--checkpoint", "none.npz"),
        ("flash", "--board", "host"),
        ("new", "/proc/none"),
        ("predict", "--source", "nothing:1"),
        ("record", "nothing:1", "-o", "none", "--labels", "a"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_users_mistake_is_exit_code_1_without_a_traceback(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def completed(line: str) -> list[str]:
    """What bash is offered behind the line."""
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    as_installed = "import sys; sys.argv[0] = 'ondevice'; from ondevice.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", as_installed],
        env={
            **os.environ,
            "_ONDEVICE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ondevice che", {"check", "checkpoint"}),
        ("ondevice train --board qemu_f", {"qemu_f405"}),
        ("ondevice check --board ", set(list_boards())),
        ("ondevice train --scheme la", {"last", "last-2", "last-4"}),
        ("ondevice train --lr-sch", {"--lr-schedule"}),
    ],
)
def test_tab_completes_verbs_options_boards_and_schemes(line: str, offered: set[str]) -> None:
    assert set(completed(line)) == offered
