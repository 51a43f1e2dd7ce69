"""Ctrl-C as a question between steps instead of an exception in the middle of one."""

import signal
from collections.abc import Callable
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

EXIT_CODE = 130  # of a shell's command that SIGINT ended: 128 + 2


class StopOnInterrupt:
    """While entered, the first Ctrl-C only sets a flag; the second raises KeyboardInterrupt.

    In another thread than the main one, which alone is told of Ctrl-C, it does nothing.

    Args:
        on_stop: Called once, at the first Ctrl-C.
    """

    def __init__(self, on_stop: Callable[[], None] = lambda: None) -> None:
        self._on_stop = on_stop
        self._requested = False
        self._previous: Any = None

    def requested(self) -> bool:
        """Returns whether Ctrl-C was pressed."""
        return self._requested

    def __enter__(self) -> "StopOnInterrupt":
        if current_thread() is main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        self._on_stop()
