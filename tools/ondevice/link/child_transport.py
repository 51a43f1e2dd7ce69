"""A child process as a transport: what its two ways to talk share."""

import selectors
from abc import ABC, abstractmethod

from ondevice.link.child_process import ChildProcess

CHUNK_BYTES = 65536


class ChildTransport(ABC):
    """Bytes from and to a child process; how they travel is the subclass's.

    Attributes:
        name: What the user calls it, for messages.
        bytes_per_s: None: as fast as the computer.
    """

    def __init__(self, child: ChildProcess) -> None:
        self.name = child.name
        self.bytes_per_s: float | None = None
        self._child = child
        self._received = bytearray()
        self._closed = False
        self._readable = selectors.DefaultSelector()
        self._both = selectors.DefaultSelector()

    @abstractmethod
    def _send(self, data: memoryview) -> int:
        """Send what fits now, and say how much.

        Raises:
            BlockingIOError: Nothing fits.
            OSError: The other end is gone.
        """

    @abstractmethod
    def _receive(self) -> bytes:
        """Return what has arrived; empty where the other end has closed.

        Raises:
            BlockingIOError: Nothing has.
            OSError: The other end is gone.
        """

    def write(self, data: bytes) -> None:
        """Send all of the data.

        Takes in what the child sends meanwhile: it may not read on before it is rid of that.
        """
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._send(rest) :]
            except BlockingIOError:
                for _, events in self._both.select(1.0):
                    if events & selectors.EVENT_READ:
                        self._fill()
            except (OSError, ValueError) as error:
                raise self._child.ended() from error

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Return what has arrived; empty after the timeout."""
        if not self._received and self._readable.select(max(0.0, timeout_s)):
            self._fill()
        data = bytes(self._received[:max_bytes])
        del self._received[:max_bytes]
        return data

    def close(self) -> None:
        """End the child; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._readable.close()
        self._both.close()
        self._child.end()

    def _fill(self) -> None:
        try:
            data = self._receive()
        except BlockingIOError:
            return
        except OSError as error:
            raise self._child.ended() from error
        if not data and not self._received:
            raise self._child.ended()
        self._received += data
