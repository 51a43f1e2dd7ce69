"""The SuperLink's process: Flower's service, of which the network sees the nodes' interface alone.

Flower 1.42 serves nodes (Fleet), those who start runs (Control) and the programs of runs (Runtime)
at one address, and asks only nodes who they are: whoever reached it could start a run of their own,
which is code. So there are two listeners here: a public one for /v1/fleet/, and one on the loopback
interface for the parent process, which proves itself by a secret.
"""

import asyncio
import hmac
import json
import socket
import sys
from pathlib import Path
from typing import Any

from ondevice.federate.deployed.child_process import end_with_parent

SECRET_HEADER = "x-ondevice-secret"
FLEET, CONTROL = "/v1/fleet/", "/v1/control/"


class FleetOnly:
    """An application that answers nodes and nobody else."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "http" and scope["path"].startswith(FLEET):
            await self._app(scope, receive, send)
        else:
            await refuse(scope, send, 404)


class ParentOnly:
    """An application that takes orders from the parent process alone.

    What runs need (Runtime) has Flower's own secret and tokens.
    """

    def __init__(self, app: Any, secret: str) -> None:
        self._app, self._secret = app, secret.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request, or the service's beginning and end."""
        if scope["type"] == "http" and scope["path"].startswith(CONTROL):
            shown = dict(scope["headers"]).get(SECRET_HEADER.encode(), b"")
            if not hmac.compare_digest(shown, self._secret):
                await refuse(scope, send, 403)
                return
        await self._app(scope, receive, send)


async def refuse(scope: Any, send: Any, status: int) -> None:
    """Answers without a word."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close"})


def main() -> None:
    """Runs until the parent ends it or has ended; arguments: its process id, settings as JSON."""
    end_with_parent(int(sys.argv[1]))
    settings = json.loads(sys.argv[2])

    import uvicorn
    from flwr.superlink.cli.flower_superlink import (
        SuperLinkLifespan,
        _parse_superlink_lifespan_config,
    )
    from flwr.superlink.main import create_app

    tls: dict[str, Any] = {}
    options = ["--insecure"]
    if settings["certificate"]:
        tls = {"ssl_certfile": settings["certificate"], "ssl_keyfile": settings["key"]}
        options = ["--enable-supernode-auth", "--ssl-ca-certfile", settings["ca"]]
        options += ["--ssl-certfile", settings["certificate"], "--ssl-keyfile", settings["key"]]
    secret_file = settings["secret_file"]
    sys.argv = ["flower-superlink", *options, "--disable-runtime-dependency-installation"]
    sys.argv += ["--isolation", "process", "--superexec-auth-secret-file", secret_file]
    config = _parse_superlink_lifespan_config()
    app = create_app(config, SuperLinkLifespan)
    private_app = ParentOnly(app, Path(secret_file).read_bytes().hex())
    private = uvicorn.Server(uvicorn.Config(private_app, access_log=False, lifespan="on"))
    public = uvicorn.Server(uvicorn.Config(FleetOnly(app), access_log=False, lifespan="off", **tls))

    async def serve() -> None:
        await asyncio.gather(
            private.serve([socket.socket(fileno=settings["private_fd"])]),
            public.serve([socket.socket(fileno=settings["public_fd"])]),
        )

    asyncio.run(serve())


if __name__ == "__main__":
    main()
