"""`ondevice record` in a real terminal, from a fake Arduino on a pseudo terminal."""

import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest

from fake_arduino import RATE_HZ, FakeArduino, shaken

LINES, COLUMNS = 30, 110
PATIENCE_S = 60


class Terminal:
    """A shell that runs one command, and the screen as a person sees it."""

    def __init__(self, command: str) -> None:
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        size = (LINES, COLUMNS)
        # What the terminal is like afterwards says whether it was put back.
        script = f"trap : INT; {command}; echo exit code $?; stty -a"
        self.child: Any = pexpect.spawn("/bin/sh", ["-c", script], dimensions=size, timeout=5)

    def until(self, pattern: str) -> str:
        """Reads until the screen shows a pattern; returns the screen."""
        end = time.monotonic() + PATIENCE_S
        while not re.search(pattern, text := "\n".join(self._screen.display)):
            assert time.monotonic() < end, f"no {pattern!r} in:\n{text}"
            try:
                self._stream.feed(self.child.read_nonblocking(65536, timeout=1))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                text = "\n".join(self._screen.display)
                assert re.search(pattern, text), f"ended without {pattern!r}:\n{text}"
        return text


def record_command(port: str, folder: Path, *options: str) -> str:
    words = [sys.executable, "-m", "ondevice", "record", f"serial:{port}", "-o", str(folder)]
    return shlex.join([*words, *options])


def assert_is_as_before(screen: str) -> None:
    assert re.search(r"(?<!-)\bicanon\b", screen), screen
    assert re.search(r"(?<!-)\becho\b", screen), screen


def test_keys_record_two_classes_and_the_terminal_is_put_back(tmp_path: Path) -> None:
    folder = tmp_path / "moves"
    with FakeArduino() as arduino:
        terminal = Terminal(record_command(arduino.port, folder, "--labels", "idle,walking"))
        screen = terminal.until(r"1-2 begin/end a take")
        assert f"serial:{arduino.port}" in screen
        assert re.search(r"ax .*[▁▂▃▄▅▆▇█]", terminal.until(r"ax .*[▁▂▃▄▅▆▇█]"))
        terminal.child.send("1")
        terminal.until(r"1 +idle .*recording [1-9]")
        terminal.child.send(" ")
        terminal.until(r"1 +idle +1 ")
        arduino.motion = shaken
        terminal.child.send("2")
        terminal.until(r"2 +walking .*recording [1-9]")
        terminal.child.send("1")  # ends walking, begins idle
        terminal.until(r"1 +idle .*recording")
        terminal.child.send("u")  # which was a slip
        terminal.until(r"undone: the last take of idle")
        terminal.child.send("q")
        assert_is_as_before(terminal.until(r"exit code 0[\s\S]*icanon"))
    assert len(list((folder / "idle").iterdir())) == 1
    (walking,) = (folder / "walking").iterdir()
    rows = walking.read_text().splitlines()
    assert rows[0] == "t_s,ax,ay"
    assert len(rows) > RATE_HZ
    facts = (folder / "dataset.toml").read_text()
    assert re.search(r"rate_hz = (50\.0\d*|49\.9\d*)\n", facts), facts


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_was_recorded_and_puts_the_terminal_back(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    folder = tmp_path / "moves"
    with FakeArduino() as arduino:
        terminal = Terminal(record_command(arduino.port, folder, "--labels", "idle"))
        terminal.until(r"1 begin/end a take")
        terminal.child.send("1")
        terminal.until(r"1 +idle .*recording [2-9]")
        if number == signal.SIGINT:
            terminal.child.sendintr()
        else:
            (pid,) = children_of(terminal.child.pid)
            os.kill(pid, number)
        assert_is_as_before(terminal.until(rf"exit code {code}[\s\S]*icanon"))
    (take,) = (folder / "idle").iterdir()
    assert len(take.read_text().splitlines()) > RATE_HZ


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]
