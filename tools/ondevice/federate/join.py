"""A board that takes part in a federation: what `ondevice federate join` does."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ondevice.budget import check_budget
from ondevice.config import Config
from ondevice.connection import Connection
from ondevice.data import check_dataset
from ondevice.errors import UserError
from ondevice.evaluation import pack_samples
from ondevice.federate.flower import CONNECTED, NOT_CONNECTED, quiet_flower, use_flower
from ondevice.federate.keys import NodeKeys
from ondevice.federate.participant import Packed, Participant
from ondevice.federate.run import SIMD, federated_config
from ondevice.federate.server_address import parse_address, server_answers
from ondevice.flash_file import keeps_checkpoints_in_file
from ondevice.link.device import Device
from ondevice.sources import compiled_model, load_sources
from ondevice.target import board_budget, open_target, target_board
from ondevice.training_device import check_firmware

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.clientapp import ClientApp

    from ondevice.federate.deployed.supernode import SuperNode

MEMORY_FILE = "memory.json"
POLL_S = 0.5
AGAIN_S = 2.0
STILL_THERE_S = 40.0  # The server misses a node that was killed after 20 s (two heartbeats).


@dataclass(frozen=True)
class Node:
    """A board and its data, opened for each message.

    Attributes:
        name: Unique in the federation, and the same after a restart.
        manifest: Of the model on the board.
        samples, held_out: Packed.
        folder: Holds `MEMORY_FILE`, and a simulated board's flash.bin.
        open_device: Opens the port, or starts the simulated board with what it had in flash.
    """

    name: str
    manifest: dict[str, Any]
    samples: Packed
    held_out: Packed
    folder: Path
    open_device: Callable[[], Device]

    @contextmanager
    def open(self) -> Iterator[Participant]:
        """The board, for one message.

        Raises:
            UserError: It does not answer, or runs another model.
        """
        with Connection(self.open_device(), self.open_device) as connection:
            check_firmware(connection.device, self.manifest)
            yield Participant(
                self.name,
                connection,
                self.manifest,
                self.samples,
                self.held_out,
                self.folder / MEMORY_FILE,
            )


def prepare_node(
    config: Config, name: str, folder: Path, build_root: Path, say: Callable[[str], None]
) -> Node:
    """Compiles the model, and checks the data and the board.

    Args:
        config: All settings.
        name: Of the node.
        folder: Where it remembers rounds; is made.
        build_root: Where model and firmware are built.
        say: Takes lines for the person.

    Raises:
        UserError: Anything of it is wrong.
    """
    if not re.fullmatch(r"[\w.-]{1,64}", name):
        raise UserError(f"name {name!r}: allowed are at most 64 letters, digits and _ . -")
    config = federated_config(config)
    board = target_board(config.device)
    sources = load_sources(config)
    model = compiled_model(config, sources, build_root, simd=SIMD)
    manifest = model.manifest
    check_dataset(sources.data, manifest)
    check_budget(board_budget(board, manifest), manifest, board.name if board else "the board")
    folder.mkdir(parents=True, exist_ok=True)
    device = config.device
    if board is not None and keeps_checkpoints_in_file(board) and device.flash_file is None:
        device = replace(device, flash_file=folder / "flash.bin")
    target = open_target(device, board, model, build_root)
    with Connection(target.device, None) as connection:
        check_firmware(connection.device, manifest)
        found = connection.device.info.board
    assert target.open_again is not None  # of every target
    data = sources.data
    say(f"{name}: {found} with {len(data.x)} samples, model {manifest['model_id']}")
    return Node(
        name,
        manifest,
        pack_samples(manifest, data.x, data.y),
        pack_samples(manifest, data.x_test, data.y_test),
        folder,
        target.open_again,
    )


def join_federation(
    node: Node, server: str, keys: NodeKeys | None, say: Callable[[str], None]
) -> None:
    """Answers a server's messages until interrupted; waits for a server that is away.

    A server refuses a node that it believes to be connected still, in the same words as a key that
    it does not know. So a node that has been let in before is patient.

    Args:
        node: From `prepare_node`.
        server: HOST:PORT.
        keys: By which both know each other; None: without any protection.
        say: Takes lines for the person.

    Raises:
        UserError: It is not the server of these keys, or it refuses the node's.
    """
    use_flower()
    quiet_flower()
    from ondevice.federate.client_app import make_client_app
    from ondevice.federate.deployed.supernode import open_supernode

    def open_participant(context: "Context") -> AbstractContextManager[Participant]:
        return node.open()

    app = make_client_app(open_participant)
    address = parse_address(server)
    let_in, refused_since_s = (node.folder / MEMORY_FILE).exists(), None
    while True:
        wait_for_server(address, keys, say)
        with open_supernode(server, keys) as supernode:
            if refused_since_s is None:
                say(f"{node.name}: joining {server}")
            _answer_until_it_ends(supernode, app, node.name, say)
            log = supernode.child.log()
        refused = refusal(log)
        if CONNECTED in log:
            let_in, refused_since_s = True, None
        if not refused:
            say(f"{node.name}: the connection has ended, trying again")
        elif let_in and refused_since_s is None:
            say(f"{node.name}: the server has not missed it yet, trying again for a while")
            refused_since_s = time.monotonic()
        elif refused_since_s is None or time.monotonic() - refused_since_s > STILL_THERE_S:
            raise UserError(
                f"{server} refuses {node.name}: {refused} Its public key must be in the server's "
                "folder nodes/, and no other node may use it; after a node was killed, its key is "
                "free again in half a minute"
            )
        time.sleep(AGAIN_S)


def refusal(log: str) -> str:
    """Why a server that answered did not let the node in, of a SuperNode's log; "": it did not say.

    A server that ends while the node connects has refused nothing.
    """
    lines = [line.strip() for line in log.splitlines()]
    for line, reason in pairwise(lines):
        if NOT_CONNECTED in line and reason.startswith(("[code:", "Client error")):
            return reason
    return ""


def wait_for_server(
    address: tuple[str, int], keys: NodeKeys | None, say: Callable[[str], None]
) -> None:
    """Until the right server answers.

    Raises:
        UserError: Somebody else does.
    """
    said = False
    while not server_answers(address, keys.ca if keys is not None else None):
        if not said:
            say(f"Waiting for a server at {address[0]}:{address[1]} ...")
            said = True
        time.sleep(AGAIN_S)


def _answer_until_it_ends(
    supernode: "SuperNode", app: "ClientApp", name: str, say: Callable[[str], None]
) -> None:
    import httpx

    from ondevice.federate.deployed.tasks import answer_message

    while not supernode.child.ended():
        try:
            answer = answer_message(supernode.runtime, app)
        except httpx.HTTPError:
            return  # the SuperNode is ending
        if answer is None:
            time.sleep(POLL_S)
        elif answer.failure:
            say(f"{name}: {answer.kind}: {answer.failure}")
        else:
            say(f"{name}: {answer.kind} done")
