"""Flower's processes as children that never outlive the one that started them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ondevice.federate.flower import PRIVATE

STOP_TIMEOUT_S = 5.0
WATCH_S = 0.2


class Child:
    """A process of Flower's.

    Attributes:
        log_file: All that it printed.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", log_file: Path) -> None:
        self._process, self.log_file = process, log_file

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ended(self) -> bool:
        """It runs no more."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()

    def log(self) -> str:
        """What it printed, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log_file.read_text("utf-8", "replace"))

    def last_lines(self, count: int = 3) -> str:
        """The end of what it printed."""
        lines = [line.strip() for line in self.log().splitlines() if line.strip()]
        return " / ".join(lines[-count:]) or "it printed nothing"

    def stop(self) -> None:
        """Asks it to end, and ends it."""
        if self.ended():
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def start_child(
    module: str, arguments: Sequence[str], folder: Path, inherited: Sequence[int] = ()
) -> Iterator[Child]:
    """Starts a module of this package as a process, and ends it on leaving.

    Args:
        module: Whose `main` calls `end_with_parent` first.
        arguments: Of the process; secrets go in files.
        folder: Private; for its log and for what Flower keeps.
        inherited: File descriptors that it gets.
    """
    log_file = folder / f"{module.rpartition('.')[2]}.log"
    environment = {
        **os.environ,
        **PRIVATE,
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(folder),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=inherited,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it in order.
        )
    child = Child(process, log_file)
    try:
        yield child
    finally:
        child.stop()


def end_with_parent(parent: int) -> None:
    """Ends this process soon after its parent has, also where that was killed.

    Args:
        parent: Its process id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_TIMEOUT_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
