"""Documents say what is there: links, files, make targets, commands with their options, boards."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ondevice.boards import list_boards
from ondevice.cli import app

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# Of a user, not of the project.
OTHERS = ("runs/", "build/", "mine.", "out/")
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands_in(text: str) -> Iterator[list[str]]:
    """Words after `ondevice`, of code in backticks and of lines in blocks."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.S)
    lines = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    for piece in [*lines, *spans]:
        found = re.match(r"\s*(?:\S*/)?ondevice +(.*)", piece)
        if found is not None:
            yield found[1].replace("[", " ").replace("]", " ").split()


@every_document
def test_every_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", text_of(path))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []


@every_document
def test_every_file_that_is_named_is_there(path: Path) -> None:
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?)`", text_of(path))
    known = [name for name in named if not name.startswith(OTHERS) and "NAME" not in name]
    places = (ROOT, ROOT / "tools" / "ondevice", ROOT / "compiler" / "ondevice_compiler",
              ROOT / "tools", ROOT / "runtime", ROOT / "firmware" / "src")  # fmt: skip
    suffixes = (".py", ".c", ".h", ".md", ".ini", ".toml", ".json", ".robot", ".repl")
    files = [name for name in known if name.endswith((*suffixes, "/"))]
    assert [name for name in files if not any((place / name).exists() for place in places)] == []


@every_document
def test_every_make_target_exists(path: Path) -> None:
    code = re.findall(r"`make ([a-z-]+)|^make ([a-z-]+)", text_of(path), re.M)
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.M))
    assert {a or b for a, b in code} - targets == set()


@every_document
def test_every_command_and_option_exists(path: Path) -> None:
    group: Any = typer.main.get_command(app)  # of typer's own click
    for words in commands_in(text_of(path)):
        verb = words[0]
        if not re.fullmatch(r"[a-z][a-z-]*", verb):
            assert not verb.startswith("-") or verb in ("--help", "--install-completion"), words
            continue
        command = group
        while hasattr(command, "commands") and words:
            command = command.commands.get(words.pop(0))
        assert command is not None, f"`ondevice {verb}` is unknown"
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        used = {word.rstrip(",;.") for word in words if word.startswith("--")}
        assert used - known == set(), f"ondevice {verb}"


@every_document
def test_every_board_that_is_named_exists(path: Path) -> None:
    text = re.sub(r"[\w/]+/[\w.]+", " ", text_of(path))  # no file names
    named = set(re.findall(r"\b(?:nucleo|qemu|renode)_[a-z0-9_]+\b", text))
    assert {name for name in named if name not in list_boards()} == set()
