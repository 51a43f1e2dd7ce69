"""An Arduino on a pseudo terminal whose sketch prints for the Serial Plotter."""

import contextlib
import math
import os
import threading
import tty
from collections.abc import Callable

RATE_HZ = 50
_ROWS_AT_ONCE = 4  # as USB brings them
_PAUSE_S = 0.02  # so that a take is not endless; the rate is that of the column millis

Motion = Callable[[int], tuple[float, float]]


def resting(index: int) -> tuple[float, float]:
    return 0.05 * math.sin(index), 1.0


def shaken(index: int) -> tuple[float, float]:
    return 2.0 * math.sin(0.9 * index), -1.0 + math.cos(0.9 * index)


class FakeArduino:
    """Prints until it is left; a context.

    Attributes:
        port: Path, as serial: takes it.
        motion: What the sensor sees; may be changed while it prints.
    """

    def __init__(self, motion: Motion = resting) -> None:
        self.motion = motion
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # nobody echoes
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> "FakeArduino":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _loop(self) -> None:
        index, pending = 0, b""
        while not self._stop.is_set():
            if not pending:
                for _ in range(_ROWS_AT_ONCE):
                    ax, ay = self.motion(index)
                    millis = 1000 * index // RATE_HZ
                    pending += f"millis:{millis},ax:{ax:.3f},ay:{ay:.3f}\r\n".encode()
                    index += 1
            with contextlib.suppress(BlockingIOError):  # nobody reads
                pending = pending[os.write(self._master, pending) :]
            self._stop.wait(_PAUSE_S)
