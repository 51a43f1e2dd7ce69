"""The verbs `ondevice federate keys`, `serve` and `join`: boards on several computers."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ondevice import options as opt
from ondevice.config import Overrides
from ondevice.errors import UserError
from ondevice.federate.command import app as app  # with these verbs in it
from ondevice.federate.round_display import RoundDisplay
from ondevice.federate.round_events import FederationEvent, record_of
from ondevice.interrupt import EXIT_CODE
from ondevice.json_lines import JsonLines
from ondevice.options import INPUT, with_settings
from ondevice.settings import load_settings
from ondevice.terminal import text_console

INSECURE = (
    "Warning: --insecure: no encryption and no authentication; whoever is on the network reads and "
    "forges what is sent"
)
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Without keys: plain HTTP, for tests on one computer.")
]


@app.command(
    epilog="Example:\n\n"
    "  ondevice federate keys keys --host trainer.local --host 192.168.1.20 --nodes 8"
)
def keys(
    folder: Annotated[Path, typer.Argument(help="Written once")],
    host: Annotated[
        list[str],
        typer.Option("--host", help="Name or IP address of the server, as nodes call it"),
    ],
    nodes: Annotated[int, typer.Option("--nodes", help="How many may join", min=1)],
) -> None:
    """Make the keys of a federation: a server certificate, and a key pair for each node."""
    from ondevice.federate.keys import VALID_DAYS, make_keys

    make_keys(folder, host, nodes)
    print(
        f"{folder}/server: to the server, for `ondevice federate serve --keys`; valid for "
        f"{VALID_DAYS} days"
    )
    last = f" ... node-{nodes}" if nodes > 1 else ""
    print(
        f"{folder}/node-1{last}: one to each node, for `ondevice federate join --keys`, over a "
        "channel that you trust"
    )
    print("The private files (server-key.pem, node-key) are for their owners alone (mode 0600)")


@app.command(
    epilog="Examples:\n\n"
    "  ondevice federate serve --model build/net --keys keys/server --rounds 30 --nodes 8\n\n"
    "  ondevice federate serve --keys keys/server --resume runs/20260101-120000-net"
)
@with_settings(
    *INPUT,
    "training",
    "federate",
    "output",
    without=(
        "training.steps",
        "training.epochs",
        "training.evaluate_each_epoch",
        "training.checkpoint_every_steps",
        "federate.clients",
        "federate.boards",
        "federate.client_data",
        "federate.split",
        "federate.dirichlet_alpha",
        "output.tensorboard",
        "output.mlflow",
    ),
)
def serve(
    overrides: Overrides,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="Folder server/ of `ondevice federate keys`")
    ] = None,
    address: Annotated[
        str, typer.Option("--address", help="HOST:PORT that nodes connect to")
    ] = "0.0.0.0:9092",
    nodes: Annotated[
        int, typer.Option("--nodes", help="Nodes to wait for before the first round", min=1)
    ] = 1,
    insecure: InsecureOption = False,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", help="Go on with the run of this folder after its last round"),
    ] = None,
    config: opt.ConfigOption = None,
    as_json: opt.JsonLinesOption = False,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Federate boards on other computers: wait for nodes, then rounds of training and averaging."""
    from ondevice.federate.keys import load_server_keys
    from ondevice.federate.run import resumed_config
    from ondevice.federate.serve import serve_federation
    from ondevice.federate.server_address import parse_address

    if resume is not None:
        if config is not None or any(v is not None for s in overrides.values() for v in s.values()):
            raise typer.BadParameter("--resume keeps the settings of its run")
        settings = resumed_config(resume)
    else:
        settings = load_settings(config, overrides)
    _check_security(keys, insecure)
    console = text_console(as_json)
    if insecure:
        console.print(INSECURE)
    display = RoundDisplay(console.print)
    lines = JsonLines(sys.stdout) if as_json else None

    def on_event(event: FederationEvent) -> None:
        display.on_event(event)
        if lines is not None:
            lines.write(record_of(event))

    try:
        result = serve_federation(
            settings,
            build_dir,
            parse_address(address),
            load_server_keys(keys) if keys is not None else None,
            on_event,
            console.print,
            nodes,
            resume,
        )
    except KeyboardInterrupt:
        console.print(
            "Interrupted; go on with `ondevice federate serve --resume` and the run folder"
        )
        raise typer.Exit(EXIT_CODE) from None
    if lines is not None:
        lines.write({"event": "summary", **result.summary, "run": str(result.folder)})
    console.print(f"Results are in {result.folder}")


@app.command(
    epilog="Examples:\n\n"
    "  ondevice federate join trainer.local:9092 --keys node-3 --name alice --model net "
    "--data alice.npz --port /dev/ttyACM0\n\n"
    "  ondevice federate join trainer.local:9092 --keys node-4 --name bob --board host"
)
@with_settings(*INPUT, "device", "federate.strategy")
def join(
    overrides: Overrides,
    server: Annotated[str, typer.Argument(help="HOST:PORT of `ondevice federate serve`")],
    name: Annotated[str, typer.Option("--name", help="Unique in the federation; stays the same")],
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="Folder node-N/ of `ondevice federate keys`"),
    ] = None,
    insecure: InsecureOption = False,
    memory: Annotated[
        Path | None,
        typer.Option("--memory", help="Folder where rounds are remembered (default: nodes/NAME)"),
    ] = None,
    config: opt.ConfigOption = None,
    build_dir: opt.BuildDirOption = Path("build"),
) -> None:
    """Let a board take part: train on it whenever the server asks, until Ctrl-C."""
    from ondevice.federate.join import join_federation, prepare_node
    from ondevice.federate.keys import load_node_keys
    from ondevice.federate.server_address import parse_address

    settings = load_settings(config, overrides)
    _check_security(keys, insecure)
    parse_address(server)
    node_keys = load_node_keys(keys) if keys is not None else None
    console = text_console(False)
    if insecure:
        console.print(INSECURE)
    folder = memory if memory is not None else Path("nodes") / name
    try:
        node = prepare_node(settings, name, folder, build_dir, console.print)
        join_federation(node, server, node_keys, console.print)
    except KeyboardInterrupt:
        console.print(f"{name}: interrupted; join again with the same command")
        raise typer.Exit(EXIT_CODE) from None


def _check_security(keys: Path | None, insecure: bool) -> None:
    if keys is None and not insecure:
        raise UserError(
            "no --keys: `ondevice federate keys` makes them; --insecure goes without encryption "
            "and authentication"
        )
    if keys is not None and insecure:
        raise UserError("--keys and --insecure exclude each other")
