"""The dashboard while a run goes on, in a thread of its own: training does not wait for it."""

import os
import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

from rich.console import Console

from ondevice.dashboard.painter import Painter
from ondevice.dashboard.reducer import Reducer
from ondevice.dashboard.screen import dashboard
from ondevice.dashboard.state import Facts
from ondevice.display import sentence
from ondevice.events import Ended, Event

SHORTEST_INTERVAL_S = 0.25  # between two pictures
LARGEST_SHARE = 0.04  # of the time, for drawing: Python runs one thread at a time


class Dashboard:
    """Shows events in panels on the whole terminal; in the end, what matters as lines.

    A context: whatever ends it, the terminal is put back, and lines that were said are printed.

    Args:
        console: A terminal.
        facts: Of model and board.
        earlier: Events of the run before this process.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        console: Console,
        facts: Facts,
        earlier: tuple[Event, ...] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._console, self._clock = console, clock
        self._reducer = Reducer(facts)
        for event in earlier:
            self._reducer.take(event, None)
        self._painter = Painter(console)
        self._lines: list[str] = []  # printed when the screen is given back
        self._begun_s: float | None = None
        self._lock = threading.RLock()  # Ctrl-C may say something while an event is taken
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_the_end, daemon=True)
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Dashboard":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def on_event(self, event: Event) -> None:
        """Takes one event."""
        begins = self._begun_s is None  # Started is always the first event
        if self._begun_s is None:
            self._begun_s = self._clock()
        with self._lock:
            self._reducer.take(event, self._clock() - self._begun_s)
        if begins:
            self._start()
        if line := sentence(event):
            self._lines.append(line)
        if isinstance(event, Ended):
            self._stop()

    def say(self, line: str) -> None:
        """Shows a line that is no event."""
        if self._begun_s is None or self._end.is_set():
            self._console.print(line)
            return
        with self._lock:
            self._reducer.say(line)
            self._lines.append(line)
        self._painter.repaint()  # Ctrl-C was echoed on it

    def _start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in (
                (signal.SIGTERM, _exit),
                (signal.SIGHUP, _exit),
                (signal.SIGTSTP, self._suspend),
            ):
                if signal.getsignal(number) == signal.SIG_DFL:  # else somebody cares for it already
                    self._handlers[number] = signal.signal(number, handler)
        self._painter.enter()
        self._thread.start()

    def _stop(self) -> None:
        if self._begun_s is None or self._end.is_set():
            return
        self._end.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join()
        self._painter.leave()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for line in self._lines:
            self._console.print(line)

    def _draw_until_the_end(self) -> None:
        wait_s = 0.0
        try:
            while not self._end.wait(wait_s):
                begun_s = monotonic()
                self._draw()
                wait_s = max(SHORTEST_INTERVAL_S, (monotonic() - begun_s) / LARGEST_SHARE)
        except Exception as error:  # whatever it is, it must not end a run of hours
            self._painter.leave()
            self._lines.append(f"The dashboard ended with {error!r}; the run went on without it")

    def _draw(self) -> None:
        assert self._begun_s is not None
        with self._lock:
            self._reducer.at(self._clock() - self._begun_s)
            state = self._reducer.state()
        if state is not None:
            columns, lines = self._console.size
            self._painter.paint(dashboard(state, columns, lines), columns, lines)

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its screen, and gives ours back with `fg`."""
        self._painter.leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        self._painter.enter()


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
