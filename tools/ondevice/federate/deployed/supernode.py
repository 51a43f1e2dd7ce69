"""A SuperNode as a child process: it keeps the connection, and this process does the work."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ondevice.errors import UserError
from ondevice.federate.deployed.child_process import Child, start_child
from ondevice.federate.deployed.superlink import listen, write_secret
from ondevice.federate.deployed.tasks import RuntimeAddress, wait_until_ready
from ondevice.federate.flower import NOT_CONNECTED
from ondevice.federate.keys import NodeKeys


@dataclass(frozen=True)
class SuperNode:
    """One that runs.

    Attributes:
        runtime: Where this process gets messages.
        child: The process.
    """

    runtime: RuntimeAddress
    child: Child


@contextmanager
def open_supernode(server: str, keys: NodeKeys | None) -> Iterator[SuperNode]:
    """Starts a SuperNode, and ends it on leaving.

    It may have ended already, where the server was quick to refuse it: its log says so.

    Args:
        server: host:port of the SuperLink.
        keys: What the server is checked by, and what it knows the node by; None: plain HTTP.

    Raises:
        UserError: Flower does not start.
    """
    with tempfile.TemporaryDirectory(prefix="ondevice-node-") as name:
        folder, secret = Path(name), secrets.token_bytes(32)
        write_secret(folder / "secret", secret)
        with listen(("127.0.0.1", 0)) as taken:
            port = int(taken.getsockname()[1])
        options = ["--insecure"]
        if keys is not None:
            options = ["--root-certificates", str(keys.ca.resolve())]
            options += ["--auth-supernode-private-key", str(keys.key.resolve())]
        options += ["--superlink", server, "--host", "127.0.0.1", "--port", str(port)]
        options += ["--isolation", "process", "--superexec-auth-secret-file", f"{folder}/secret"]
        module = "ondevice.federate.deployed.supernode_process"
        with start_child(module, options, folder) as child:
            runtime = RuntimeAddress(f"127.0.0.1:{port}", secret)
            try:
                wait_until_ready(runtime, child, "SuperNode")
            except UserError:
                if NOT_CONNECTED not in child.log():
                    raise
            yield SuperNode(runtime, child)
