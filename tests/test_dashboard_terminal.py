"""`ondevice train` in a real terminal: the dashboard as a person sees it, and what it leaves."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

from ondevice.dashboard.watch_command import watch
from ondevice.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 60
LEAVE = b"\x1b[?1049l"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ondevice", *arguments]


def build() -> Path:
    return ROOT / "build" / "tests" / os.environ.get("PYTEST_XDIST_WORKER", "main")


def training(output: Path, *options: str) -> list[str]:
    return command("train", "--board", "host", "--build-dir", str(build()), "--output",
                   str(output), *options)  # fmt: skip


class Terminal:
    """A command in a terminal.

    Attributes:
        sent: All that the command wrote.
    """

    def __init__(self, words: list[str], size: tuple[int, int], **environment: str) -> None:
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        self.sent = b""
        script = f"trap : INT; {shlex.join(words)}; echo exit code $?"
        left_out = ("CI", "NO_COLOR", "COLUMNS", "LINES")  # of who runs the tests
        inherited = {k: v for k, v in os.environ.items() if k not in left_out}
        self.child: Any = pexpect.spawn(
            "/bin/sh", ["-c", script], dimensions=(size[1], size[0]), timeout=5,
            env={**inherited, "TERM": "xterm-256color", **environment},
        )  # fmt: skip

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        self.child.setwinsize(lines, columns)

    def until(self, pattern: str) -> str:
        """Reads until the screen shows a pattern; returns the screen."""
        end = time.monotonic() + PATIENCE_S
        while not re.search(pattern, text := "\n".join(self._screen.display)):
            assert time.monotonic() < end, f"no {pattern!r} in:\n{text}"
            try:
                piece = self.child.read_nonblocking(65536, timeout=1)
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                raise AssertionError(f"ended without {pattern!r}:\n{text}") from None
            self.sent += piece
            self._stream.feed(piece)
        return text

    def rest(self) -> str:
        """Reads to the end; returns what was written after the dashboard, which must be gone."""
        while True:
            try:
                self.sent += self.child.read_nonblocking(65536, timeout=PATIENCE_S)
            except pexpect.EOF:
                break
        assert self.sent.count(b"\x1b[?1049h") == self.sent.count(LEAVE) > 0
        assert self.sent.rindex(b"\x1b[?25h") > self.sent.rindex(b"\x1b[?25l")
        return self.sent[self.sent.rindex(LEAVE) + len(LEAVE) :].decode()


@cache
def a_run() -> Path:
    """A short run on the host board, as lines; its model is compiled then."""
    output = build() / "dashboard"
    terminal = Terminal(training(output, "--plain", "--steps", "150"), (120, 40))
    terminal.until("exit code 0")
    assert b"150/150" in terminal.sent
    assert b"\x1b[?1049h" not in terminal.sent
    return max(output.iterdir())


def test_the_dashboard_lives_in_a_terminal_and_leaves_the_figures_as_text(tmp_path: Path) -> None:
    a_run()
    terminal = Terminal(training(tmp_path, "--epochs", "2000"), (120, 40))
    screen = terminal.until(r"epoch [1-9]\d* of 2000[\s\S]*requests +\d")
    for words in (
        "watch on host", "loss", "accuracy", "confusion", "pendulum", "multiply-accumulates a step",
        "arena when fullest", "clean", "saturated", "remaining",
    ):  # fmt: skip
        assert words in screen, f"{words!r} is not in:\n{screen}"
    terminal.resize(80, 24)
    small = terminal.until(r"sent again[\s\S]*saturated")
    assert "confusion" not in small
    terminal.resize(130, 40)
    terminal.until("confusion")
    terminal.child.sendintr()
    left = terminal.rest()
    assert "Stopping after this step; Ctrl-C again ends at once." in left
    assert "Before training: accuracy 33.6 %" in left
    assert "gradients saturated" in left
    assert "ondevice train --resume" in left.replace("\r\n", " ")
    assert "exit code 130" in left


def test_a_terminated_run_without_colours_gives_the_terminal_back(tmp_path: Path) -> None:
    a_run()
    train = shlex.join(["exec", *training(tmp_path, "--epochs", "2000")])
    terminal = Terminal(["sh", "-c", f"echo pid $$; {train}"], (100, 30), NO_COLOR="1")
    screen = terminal.until(r"saturated +\d")
    assert re.search(r"A arena 5,000 B +P parameters", screen)
    assert "# forward" in screen
    pid = re.search(rb"pid (\d+)", terminal.sent)
    assert pid is not None
    os.kill(int(pid[1]), signal.SIGTERM)
    left = terminal.rest()
    assert "Before training: accuracy" in left
    assert "exit code 143" in left
    assert re.findall(rb"\x1b\[[\d;]*[34][0-9][\d;]*m", terminal.sent) == []


def test_watch_shows_a_run_that_is_over_and_changes_nothing() -> None:
    run = a_run()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    done = subprocess.run(command("watch", str(run)), capture_output=True, text=True, check=True)
    assert "150/150  100 %" in done.stdout
    assert "After training: accuracy" in done.stdout
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) == 120
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_watch_follows_a_run_to_its_end(tmp_path: Path) -> None:
    over = a_run()
    lines = (over / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    for name in ("manifest.json", "config.toml"):
        (tmp_path / name).write_bytes((over / name).read_bytes())
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(b"".join(lines[:50]) + lines[50][:10])
    terminal = Terminal(command("watch", str(tmp_path)), (100, 30))
    terminal.until("36/150")
    with metrics.open("ab") as file:
        file.write(lines[50][10:] + b"".join(lines[51:]))
    left = terminal.rest()
    assert "150/150  100 %" in left
    assert "exit code 0" in left


def test_watch_draws_an_svg(tmp_path: Path) -> None:
    picture = tmp_path / "dashboard.svg"
    subprocess.run(command("watch", str(a_run()), "--svg", str(picture)), check=True)
    text = picture.read_text(encoding="utf-8").replace("&#160;", " ")
    assert text.startswith("<svg")
    assert "150/150" in text


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (None, "no metrics.jsonl there"),
        (b"", "the run has not begun yet"),
        (b"\x00coffee\n", "metrics.jsonl: damaged"),
        (b'{"event": "coffee"}\n', "no event of a run: 'coffee'"),
    ],
)
def test_watch_says_what_is_wrong_with_a_folder(
    tmp_path: Path, metrics: bytes | None, message: str
) -> None:
    for name in ("manifest.json", "config.toml"):
        (tmp_path / name).write_bytes((a_run() / name).read_bytes())
    if metrics is not None:
        (tmp_path / "metrics.jsonl").write_bytes(metrics)
    with pytest.raises(UserError, match=message):
        watch(tmp_path)
