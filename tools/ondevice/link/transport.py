"""Ways for bytes to reach a board: a serial port, or a child process that is the board."""

import contextlib
import errno
import os
import selectors
from collections.abc import Sequence
from typing import Protocol

import serial

from ondevice.errors import LinkError
from ondevice.link.child_process import ChildProcess
from ondevice.link.child_transport import CHUNK_BYTES, ChildTransport


class Transport(Protocol):
    """A stream of bytes in both directions that may lose or change any of them.

    Attributes:
        name: What the user calls it, for messages.
        bytes_per_s: Its rate; None where it is as fast as the computer.
    """

    name: str
    bytes_per_s: float | None

    def write(self, data: bytes) -> None:
        """Send all of the data.

        Raises:
            LinkError: The other end is gone.
        """

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Return what has arrived, at least one byte; empty after the timeout.

        Raises:
            LinkError: The other end is gone.
        """

    def close(self) -> None:
        """Release it; a second call does nothing."""


class SerialTransport:
    """A serial port of this computer, or any URL that pyserial takes."""

    def __init__(self, port: str, baud: int = 115200) -> None:
        self.name = port
        self.bytes_per_s: float | None = baud / 10  # a start and a stop bit around each byte
        try:
            self._serial = serial.serial_for_url(port, do_not_open=True)
            self._serial.baudrate = baud
            self._serial.timeout = 0
            self._serial.write_timeout = 10
            if "://" not in port:
                self._serial.exclusive = True
            self._serial.open()
        except (serial.SerialException, ValueError, OSError) as error:
            raise LinkError(_open_message(port, baud, error)) from error

    def write(self, data: bytes) -> None:
        """Send all of the data."""
        try:
            self._serial.write(data)  # not drained: the channel knows how long that takes
        except serial.SerialTimeoutException as error:
            raise LinkError(
                f"{self.name} takes no more bytes; unplug the board and plug it in again"
            ) from error
        except (serial.SerialException, OSError, TypeError) as error:
            raise self._gone() from error

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Return what has arrived; empty after the timeout."""
        try:
            self._serial.timeout = timeout_s
            first: bytes = self._serial.read(1)
            if not first:
                return b""
            rest: bytes = self._serial.read(min(max_bytes - 1, self._serial.in_waiting))
            return first + rest
        except (serial.SerialException, OSError, TypeError) as error:
            raise self._gone() from error

    def close(self) -> None:
        """Release the port."""
        with contextlib.suppress(serial.SerialException, OSError):
            self._serial.close()

    def _gone(self) -> LinkError:
        return LinkError(
            f"{self.name} went away in the middle: the board was unplugged or another program "
            "took the port; plug it in and start again"
        )


def _open_message(port: str, baud: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    text = str(error).lower()
    if isinstance(error, ValueError):
        return f"{port} at {baud} baud cannot be opened: {error}"
    if number == errno.ENOENT:
        return f"there is no serial port {port}; plug the board in and see `ondevice ports`"
    if number == errno.EACCES:
        return (
            f"no permission to open {port}; add yourself to its group "
            "(`sudo usermod -aG dialout $USER`) and log in again"
        )
    if number in (errno.EBUSY, errno.EAGAIN) or "lock" in text or "busy" in text:
        return f"{port} is in use by another program; close it and start again"
    return f"{port} cannot be opened: {error}"


class ProcessTransport(ChildTransport):
    """A child process whose standard input and output are the board's UART; see `ChildProcess`.

    Attributes:
        pid: Of the process, and of its group.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str | None = None,
        cwd: str | None = None,
        inherited: Sequence[int] = (),
    ) -> None:
        shown = name if name is not None else os.path.basename(argv[0])
        child = ChildProcess(argv, shown, is_uart=True, cwd=cwd, inherited=inherited)
        super().__init__(child)
        process = child.process
        self.pid = process.pid
        assert process.stdin is not None
        assert process.stdout is not None
        self._in = process.stdin.fileno()
        self._out = process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._readable.register(self._out, selectors.EVENT_READ)
        self._both.register(self._out, selectors.EVENT_READ)
        self._both.register(self._in, selectors.EVENT_WRITE)

    def _send(self, data: memoryview) -> int:
        return os.write(self._in, data)

    def _receive(self) -> bytes:
        return os.read(self._out, CHUNK_BYTES)
