"""A child process that is the board or its simulator: started, ended, and its last words."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from ondevice.errors import LinkError

_TAIL_BYTES = 4096
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


class ChildProcess:
    """A process in a session of its own, so that Ctrl-C in the terminal does not reach it.

    It ends with the thread that made this object. What it says goes to a file without a name, whose
    last line explains an early end.

    Attributes:
        process: As Python started it.

    Args:
        argv: Program and arguments.
        name: What the user calls it, for messages.
        is_uart: Standard input and output are pipes; else it has no input, and its output is part
            of what it says.
        cwd: Where it runs.
        inherited: Descriptors that stay open in it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        name: str,
        *,
        is_uart: bool,
        cwd: str | None = None,
        inherited: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end())
        try:
            self.process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE if is_uart else subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_uart else self._said,
                stderr=self._said,
                cwd=cwd,
                pass_fds=inherited,
                start_new_session=True,
                preexec_fn=_end_with_parent,
                bufsize=0,
            )
        except OSError as error:
            self._said.close()
            raise LinkError(
                f"{argv[0]} cannot be started: {error.strerror}; is it installed?"
            ) from error

    def end(self) -> None:
        """End it: it gets a second to end by itself, and another after SIGTERM."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        ways = (signal.SIGTERM, signal.SIGKILL)
        for way in ways if self.process.stdin is None else (None, *ways):
            if way is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, way)  # with what a script has started
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=1)
                break
        self._said.close()

    def ended(self) -> LinkError:
        """Says that it ended, how, and its last words."""
        deadline = time.monotonic() + 1.0
        while (status := self.process.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.005)  # its pipes close a moment before it has a status
        if status is None:
            how = "closed its output"
        elif status < 0:
            how = f"was ended by signal {-status}"
        else:
            how = f"ended with exit code {status}"
        line = self.last_line()
        return LinkError(f"{self.name} {how}" + (f": {line}" if line else " and said nothing"))

    def last_line(self) -> str:
        """Its last words so far."""
        size = os.fstat(self._said.fileno()).st_size
        tail = os.pread(self._said.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        lines = [line.strip() for line in tail.decode("utf-8", "replace").splitlines()]
        return next((line for line in reversed(lines) if line), "")


def _end_with_parent() -> None:
    """Ask Linux to end this child with the thread that started it, even if that is killed.

    A simulator does not notice that its standard input is closed, and would run on for ever.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
