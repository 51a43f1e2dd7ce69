"""A small federation in this process: host boards, Flower's messages and strategies, no Ray."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from ondevice.boards import load_board
from ondevice.build import build_firmware
from ondevice.compiled_model import load_model_directory
from ondevice.config import FederateSettings
from ondevice.data import Dataset
from ondevice.federate.client_app import make_client_app
from ondevice.federate.fleet import Fleet, Member, open_member
from ondevice.federate.messages import Order
from ondevice.federate.participant import Participant
from ondevice.federate.roster import Roster
from ondevice.federate.round_events import FederationEvent
from ondevice.federate.rounds import Federation, run_rounds
from ondevice.federate.server_state import ServerState, load_state, save_state
from ondevice.federate.splits import ClientData
from ondevice.federate.strategies import make_strategy
from ondevice.federate.weights import weight_formats, weights_to_device
from ondevice.schedule import Schedule, ScheduleKind
from small_networks import NETWORKS, compiled, labels

RATE = 0.01


def client_data(index: int) -> ClientData:
    """Samples of one client; of different numbers."""
    x = NETWORKS["perceptron"].samples(6 + 2 * index, seed=20 + index)
    y = np.asarray(labels(len(x)), np.int64)
    return ClientData(f"client-{index}", Dataset(x, y, x[:4], y[:4]))


def make_fleet(folder: Path, clients: int, **options: Any) -> Fleet:
    """Host boards with a compiled perceptron."""
    compiled("perceptron", **options).model.write(folder / "model")
    model = load_model_directory(folder / "model")
    firmware = build_firmware(model.path, load_board("host"), folder / "build")
    members = []
    for index in range(clients):
        share = client_data(index)
        place = folder / share.name
        place.mkdir(parents=True, exist_ok=True)
        data = share.data
        np.savez(place / "data.npz", x=data.x, y=data.y, x_test=data.x_test, y_test=data.y_test)
        members.append(Member(share.name, "host", place))
    return Fleet(tuple(members), model, {"host": firmware})


class LocalGrid:
    """Flower's grid to clients that run where they are called.

    Attributes:
        failing: Pairs of round and client whose reply is an error, after the client has trained.
        silent: Likewise; nothing comes.
        orders: Content of every TRAIN message, with the client's index.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.failing: set[tuple[int, int]] = set()
        self.silent: set[tuple[int, int]] = set()
        self.orders: list[tuple[int, dict[str, Any]]] = []
        self._app = make_client_app(self.open)
        self._replies: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        # Flower sets it where it starts an app; a message needs it.
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

    def open(self, context: Context) -> AbstractContextManager[Participant]:
        """The member of a node."""
        return open_member(self.fleet, self.fleet.members[context.node_id - 1])

    def get_node_ids(self) -> list[int]:
        """From 1, in no good order."""
        return list(range(len(self.fleet.members), 0, -1))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Runs the clients at once."""
        return [self._run(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """What they replied."""
        wanted = [i for i in message_ids if i in self._replies]
        return [self._replies.pop(i) for i in wanted]

    def _run(self, message: Message) -> str:
        name, node = str(next(self._numbers)), message.metadata.dst_node_id
        message.metadata.__dict__["_message_id"] = name
        context = Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
        key = (0, 0)
        if message.metadata.message_type == "train":
            order = dict(message.content.config_records["ondevice"])
            self.orders.append((node - 1, order))
            key = (int(order["round"]), node - 1)
        reply = self._app(message, context)
        if key in self.failing:
            reply = Message(Error(code=0, reason="Traceback\nOSError: gone"), reply_to=message)
        if key not in self.silent:
            self._replies[name] = reply
        return name


class Bench:
    """A server over a fleet, with its state in a file."""

    def __init__(self, folder: Path, fleet: Fleet, **settings: Any) -> None:
        self.grid, self.folder = LocalGrid(fleet), folder
        self.manifest = fleet.model.manifest
        self.formats = weight_formats(self.manifest)
        self.settings = FederateSettings(round_timeout_s=1.0, **settings)
        self.events: list[FederationEvent] = []
        self.states: list[ServerState] = []

    @property
    def state_file(self) -> Path:
        return self.folder / "server.npz"

    def first_state(self) -> ServerState:
        """The parameters that a client's board starts with."""
        with open_member(self.grid.fleet, self.grid.fleet.members[-1]) as participant:
            participant.connection.device.reset_model()
            parameters = participant.connection.device.read_parameters()
        weights = tuple(form.to_real(parameters[form.index]) for form in self.formats)
        return ServerState("federation", str(self.manifest["model_id"]), 0, weights)

    def run(self, rounds: int) -> ServerState:
        """Goes on to that round, from the file where there is one."""
        state = load_state(self.state_file) if self.state_file.exists() else self.first_state()
        settings = FederateSettings(**{**vars(self.settings), "rounds": rounds})

        def save(after: ServerState) -> None:
            self.states.append(after)
            save_state(self.state_file, after)

        federation = Federation(
            grid=self.grid,
            roster=Roster(self.manifest),
            manifest=self.manifest,
            settings=settings,
            strategy=make_strategy(settings),
            schedule=Schedule(ScheduleKind.CONSTANT, RATE, 100, 0, 1, 1.0),
            seed=0,
            evaluate=None,
            on_event=self.events.append,
        )
        return run_rounds(federation, state, save)


def order_of(bench: Bench, number: int = 1, **changes: Any) -> Order:
    """To train a round from the first weights, two epochs of it."""
    whole = b"".join(weights_to_device(bench.formats, bench.first_state().weights))
    order = Order("federation", number, 0, whole, number - 1, RATE, 2, 0, 0.0)
    return replace(order, **changes)
