"""HOST:PORT of a server, and whether who answers there is the one that a node may talk to."""

import http.client
import socket
import ssl
from pathlib import Path

from ondevice.errors import UserError

CONNECT_TIMEOUT_S = 5.0


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; an IPv6 address stands in brackets.

    Raises:
        UserError: It is none.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UserError(f"{text!r} is no address; allowed: HOST:PORT, as trainer.local:9092")
    return host, int(port)


def server_answers(address: tuple[str, int], ca: Path | None) -> bool:
    """Whether the right server answers; nothing is told to it.

    Args:
        address: Host and port.
        ca: Certificate that the server's must be signed by; None: it speaks plain HTTP.

    Returns:
        False where nobody listens.

    Raises:
        UserError: Somebody else answers, or in the clear where TLS is wanted, or the other way.
    """
    host, port = address
    try:
        connection = socket.create_connection(address, timeout=CONNECT_TIMEOUT_S)
    except OSError:
        return False
    with connection:
        if ca is None:
            _check_plain(connection, address)
            return True
        try:
            context = ssl.create_default_context(cafile=str(ca))
            with context.wrap_socket(connection, server_hostname=host):
                return True
        except ssl.SSLCertVerificationError as error:
            raise UserError(
                f"{host}:{port} is not the server of these keys: {error.verify_message}; its "
                f"certificate must be signed by {ca} and name {host} (`ondevice federate keys "
                f"--host {host}`)"
            ) from error
        except ssl.SSLError as error:
            raise UserError(
                f"{host}:{port} does not speak TLS ({error.reason}): the server was started "
                "without --keys, or something else listens there"
            ) from error
        except OSError:
            return False


def _check_plain(connection: socket.socket, address: tuple[str, int]) -> None:
    client = http.client.HTTPConnection(*address)
    client.sock = connection
    try:
        client.request("GET", "/")
        client.getresponse().read()
    except (http.client.HTTPException, OSError) as error:
        raise UserError(
            f"{address[0]}:{address[1]} does not answer to plain HTTP; a server with keys wants "
            "--keys here, too"
        ) from error
