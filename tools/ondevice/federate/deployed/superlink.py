"""The SuperLink as a child process: nodes reach it by one address, and only their part of it."""

import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext

from ondevice.errors import UserError
from ondevice.federate.deployed.bundle import build_bundle
from ondevice.federate.deployed.child_process import Child, start_child
from ondevice.federate.deployed.public_keys import public_key_bytes
from ondevice.federate.deployed.superlink_process import SECRET_HEADER
from ondevice.federate.deployed.tasks import RuntimeAddress, wait_until_ready
from ondevice.federate.keys import ServerKeys


@dataclass(frozen=True)
class SuperLink:
    """One that runs.

    Attributes:
        runtime: Where this process gets its part of the run.
        port: That nodes connect to.
        child: The process.
    """

    runtime: RuntimeAddress
    port: int
    child: Child

    def start_run(self) -> None:
        """Begins a run over all nodes, which this process serves (`tasks.serve_run`)."""
        with self._control() as client:
            bundle = build_bundle()
            answer = client.StartRun(StartRunRequest(fab=Fab(content=bundle)))
        if not answer.HasField("run_id"):
            raise UserError(f"Flower started no run: {self.child.last_lines()}")

    def register_nodes(self, public_keys: Mapping[str, bytes]) -> None:
        """Lets nodes in by their public keys.

        Args:
            public_keys: Name -> OpenSSH line.

        Raises:
            UserError: One is no key of a NIST curve, or is there twice.
        """
        with self._control() as client:
            for name, line in public_keys.items():
                request = RegisterNodeRequest(public_key=public_key_bytes(name, line), name=name)
                try:
                    client.RegisterNode(request)
                except httpx.HTTPStatusError as error:
                    raise UserError(
                        f"the public key of {name} was refused: {error.response.text:.200}; "
                        "every node needs its own"
                    ) from error

    @contextmanager
    def _control(self) -> Iterator[ControlHttpClient]:
        client = ControlHttpClient.from_server_address(
            self.runtime.address, True, None, interceptors=[_Secret(self.runtime.secret.hex())]
        )
        try:
            yield client
        finally:
            client.close()


class _Secret:
    """Shows the SuperLink that it is its parent who asks."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        context.request.headers[SECRET_HEADER] = self._secret
        return call_next(context)  # type: ignore[no-any-return]


@contextmanager
def open_superlink(address: tuple[str, int], keys: ServerKeys | None) -> Iterator[SuperLink]:
    """Starts a SuperLink, and ends it on leaving.

    Args:
        address: Host and port that nodes connect to; port 0: any.
        keys: Of the server, and of the nodes that may join; None: plain HTTP for everybody.

    Raises:
        UserError: The address cannot be listened at, or Flower does not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ondevice-link-")))
        public = stack.enter_context(listen(address))
        private = stack.enter_context(listen(("127.0.0.1", 0)))
        secret = secrets.token_bytes(32)
        settings = {
            "public_fd": public.fileno(),
            "private_fd": private.fileno(),
            "secret_file": str(folder / "secret"),
            "certificate": str(keys.certificate.resolve()) if keys else "",
            "key": str(keys.key.resolve()) if keys else "",
            "ca": str(keys.ca.resolve()) if keys else "",
        }
        write_secret(folder / "secret", secret)
        child = stack.enter_context(
            start_child(
                "ondevice.federate.deployed.superlink_process",
                [json.dumps(settings)],
                folder,
                inherited=(public.fileno(), private.fileno()),
            )
        )
        runtime = RuntimeAddress(f"127.0.0.1:{private.getsockname()[1]}", secret)
        port = int(public.getsockname()[1])
        public.close()  # the child has them; its end must be seen by who connects
        private.close()
        wait_until_ready(runtime, child, "SuperLink")
        superlink = SuperLink(runtime, port, child)
        if keys is not None:
            superlink.register_nodes(keys.nodes)
        yield superlink


def write_secret(path: Path, secret: bytes) -> None:
    """A file that only its owner reads."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)


def listen(address: tuple[str, int]) -> socket.socket:
    """A listening socket.

    Raises:
        UserError: The address is in use or not of this computer.
    """
    host, port = address
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}:{port}: {error.strerror}; choose another --address"
        ) from error
