"""A federation of boards on other computers: what `ondevice federate serve` does."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ondevice.compiled_model import ModelDirectory
from ondevice.config import Config
from ondevice.data import Dataset, check_dataset
from ondevice.errors import UserError
from ondevice.federate.flower import quiet_flower, use_flower
from ondevice.federate.keys import ServerKeys
from ondevice.federate.run import (
    SIMD,
    FederatedResult,
    FederationServer,
    OnEvent,
    evaluation_board,
    federated_config,
)
from ondevice.run_folder import create_folder
from ondevice.sources import Sources, compiled_model, load_sources

if TYPE_CHECKING:
    from flwr.serverapp import Grid

WAIT_S = 0.5


def serve_federation(
    config: Config,
    build_root: Path,
    address: tuple[str, int],
    keys: ServerKeys | None,
    on_event: OnEvent,
    say: Callable[[str], None],
    nodes: int = 1,
    resume: Path | None = None,
) -> FederatedResult:
    """Federates the nodes that join.

    Held-out samples of the server's own measure the rounds, where the settings name data; else
    the nodes measure on theirs.

    Args:
        config: All settings; of a resumed run, its own.
        build_root: Where the model and the server's own host board are built.
        address: Host and port that nodes connect to.
        keys: Of the server and the nodes; None: without any protection.
        on_event: Display.
        say: Takes lines for the person.
        nodes: How many are waited for before the first round, for at most the round's time.
        resume: Run folder to go on in.

    Raises:
        UserError: Settings are wrong, the address is in use, or too few nodes answered; the run
            folder keeps the last round.
    """
    use_flower()
    quiet_flower()
    import httpx

    from ondevice.federate.deployed.superlink import open_superlink
    from ondevice.federate.deployed.tasks import serve_run

    config = federated_config(config)
    model, measured_on = served_model(config, build_root)
    with evaluation_board(model, build_root) as connection, open_superlink(address, keys) as link:
        folder = resume
        if folder is None:
            folder = create_folder(config, model.manifest, datetime.now())
        server = FederationServer(config, model, folder, connection, measured_on, on_event)
        say(
            f"Model {model.manifest['model_id']} is served at {address[0]}:{link.port}, "
            f"{_how(keys)}"
        )

        def serve(grid: "Grid") -> None:
            wait_for_nodes(grid, nodes, config.federate.round_timeout_s)
            server.serve(grid)

        link.start_run()
        try:
            serve_run(link.runtime, serve)
        except httpx.HTTPError as error:
            raise UserError(
                f"Flower's SuperLink failed ({error}): {link.child.last_lines()}; go on with "
                f"--resume {folder}"
            ) from error
        return FederatedResult(folder, server.finish())


def served_model(config: Config, build_root: Path) -> tuple[ModelDirectory, Dataset | None]:
    """The model that all nodes run, and the server's own data; None: it has none.

    Raises:
        UserError: One is missing or wrong, or they do not fit each other.
    """
    file = config.model.file
    if config.data.file is None and file is not None and file.is_dir():
        nothing = np.empty(0, np.float32)
        without_data = Sources(file, Dataset(nothing, nothing, nothing, nothing), nothing, nothing)
        return compiled_model(config, without_data, build_root), None
    sources = load_sources(config)
    model = compiled_model(config, sources, build_root, simd=SIMD)
    check_dataset(sources.data, model.manifest)
    return model, sources.data if config.data.file is not None else None


def wait_for_nodes(grid: "Grid", nodes: int, timeout_s: float) -> None:
    """Until so many nodes are connected, or time is up: rounds have a minimum of their own."""
    deadline_s = time.monotonic() + timeout_s
    while len(list(grid.get_node_ids())) < nodes and time.monotonic() < deadline_s:
        time.sleep(WAIT_S)


def _how(keys: ServerKeys | None) -> str:
    if keys is None:
        return "without encryption, for whoever connects"
    return f"by TLS, for {len(keys.nodes)} keys of nodes"
