"""An eavesdropper on the wire: forwards TCP connections and keeps what passes."""

import socket
import threading
from contextlib import suppress
from types import TracebackType


class RecordingProxy:
    """Listens on a port of its own; a context manager.

    Attributes:
        port: To connect to instead of the server's.
        seen: All bytes of both directions, in order of arrival.

    Args:
        server_port: On this computer.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        self.seen = bytearray()

    def __enter__(self) -> "RecordingProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                self.seen += content
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)
