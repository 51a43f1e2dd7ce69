"""Keys as they are pressed, without Enter; the terminal is put back whatever happens."""

import os
import select
import signal
import termios
import tty
from types import FrameType
from typing import Any

from ondevice.errors import UserError

TERMINAL = "/dev/tty"


class Keys:
    """While entered, the terminal gives single keys and does not echo; Ctrl-C works as ever.

    It is the terminal that the process belongs to, so standard input may be a pipe.
    """

    def __init__(self) -> None:
        self._terminal = -1
        self._before: list[Any] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Keys":
        try:
            self._terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
            self._before = termios.tcgetattr(self._terminal)
        except (OSError, termios.error) as error:
            raise UserError(
                "keys need a terminal and there is none; record one take without keys: "
                "--label NAME --duration-s SECONDS"
            ) from error
        tty.setcbreak(self._terminal)
        self._handlers = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, _end),
            signal.SIGHUP: signal.signal(signal.SIGHUP, _end),
            signal.SIGCONT: signal.signal(signal.SIGCONT, self._again),
        }
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)
        os.close(self._terminal)

    def pressed(self) -> str:
        """Returns the keys since the last call; nothing is waited for."""
        ready, _, _ = select.select([self._terminal], [], [], 0)
        return os.read(self._terminal, 64).decode("ascii", "ignore") if ready else ""

    def _again(self, number: int, frame: FrameType | None) -> None:
        """After Ctrl-Z and fg the shell has set the terminal as it likes it."""
        tty.setcbreak(self._terminal)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
