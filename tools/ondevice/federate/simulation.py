"""A federation on this computer: Flower's simulation on Ray, every client a simulated board."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from ondevice.federate.client_app import make_client_app
from ondevice.federate.fleet import Fleet, open_member
from ondevice.federate.participant import Participant


def simulate(fleet: Fleet, serve: Callable[[Grid], None], processes: int | None = None) -> None:
    """Runs a server function over a fleet's clients.

    Args:
        fleet: Built; its clients are Flower's nodes.
        serve: The rounds; gets Flower's way to the nodes.
        processes: Clients at the same time; None: one a CPU.

    Raises:
        BaseException: Whatever `serve` raised.
    """
    cpus = processes if processes is not None else os.cpu_count() or 1
    raised: list[BaseException] = []
    server = ServerApp()

    @server.main()  # type: ignore[untyped-decorator]
    def main(grid: Grid, context: Context) -> None:
        try:
            serve(grid)
        except BaseException as error:
            raised.append(error)

    with _quiet():
        run_simulation(
            server,
            make_client_app(partial(open_node, fleet)),
            num_supernodes=len(fleet.members),
            backend_config={
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                "init_args": {
                    "num_cpus": min(cpus, len(fleet.members)),
                    "include_dashboard": False,
                    "log_to_driver": False,
                    "logging_level": logging.ERROR,
                },
            },
        )
    if raised:
        raise raised[0]


def open_node(fleet: Fleet, context: Context) -> AbstractContextManager[Participant]:
    """The member that Flower's node stands for."""
    return open_member(fleet, fleet.members[int(context.node_config["partition-id"])])


@contextmanager
def _quiet() -> Iterator[None]:
    """Flower and Ray log every message; a client that failed is an event of ours."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
