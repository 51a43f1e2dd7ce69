"""A child process whose UART is a TCP socket that it serves: how Renode shows one."""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Sequence

from ondevice.errors import LinkError
from ondevice.link.child_process import ChildProcess
from ondevice.link.child_transport import CHUNK_BYTES, ChildTransport

_HOST = "127.0.0.1"


def free_port() -> int:
    """A TCP port of this computer that nothing uses at the moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


class SocketTransport(ChildTransport):
    """Starts a process and connects to the port that it opens.

    Args:
        argv: Program and arguments; told the port by the caller.
        port: Of TCP, on this computer.
        name: What the user calls it, for messages.
        start_s: How long it may take to open the port.
        cwd: Where it runs.

    Raises:
        LinkError: It cannot be started, ends, or does not open the port.
    """

    def __init__(
        self,
        argv: Sequence[str],
        port: int,
        *,
        name: str | None = None,
        start_s: float = 120.0,
        cwd: str | None = None,
    ) -> None:
        shown = name if name is not None else os.path.basename(argv[0])
        super().__init__(ChildProcess(argv, shown, is_uart=False, cwd=cwd))
        try:
            self._socket = self._connect(port, start_s)
        except BaseException:
            self._child.end()
            raise
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._readable.register(self._socket, selectors.EVENT_READ)
        self._both.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _send(self, data: memoryview) -> int:
        return self._socket.send(data)

    def _receive(self) -> bytes:
        data = self._socket.recv(CHUNK_BYTES)
        self._acknowledge_at_once()
        return data

    def close(self) -> None:
        """End the child; a second call does nothing."""
        super().close()
        self._socket.close()

    def _connect(self, port: int, start_s: float) -> socket.socket:
        deadline = time.monotonic() + start_s
        while True:
            with contextlib.suppress(OSError):
                connected = socket.create_connection((_HOST, port), timeout=1.0)
                # Linux may connect a socket to itself where nobody listens.
                if connected.getsockname() != connected.getpeername():
                    return connected
                connected.close()
            if self._child.process.poll() is not None:
                raise self._child.ended()
            if time.monotonic() > deadline:
                line = self._child.last_line()
                raise LinkError(
                    f"{self.name} opened no UART on TCP port {port} within {start_s:g} s"
                    + (f": {line}" if line else "")
                )
            time.sleep(0.02)

    def _acknowledge_at_once(self) -> None:
        """The other end may hold back bytes (Nagle) until what it sent is acknowledged: 40 ms."""
        if hasattr(socket, "TCP_QUICKACK"):  # Linux; it forgets after a while
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
