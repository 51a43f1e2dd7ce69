"""Who takes part: names, models, and nodes that come and go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from ondevice.config import FederateSettings
from ondevice.errors import UserError
from ondevice.federate.messages import Introduction, to_record
from ondevice.federate.roster import Roster

MODEL = "ab" * 16
SETTINGS = FederateSettings(round_timeout_s=1.0)


class Nodes:
    """A grid whose nodes answer who they are."""

    def __init__(self, nodes: dict[int, Introduction]) -> None:
        self.nodes = nodes
        self._asked: dict[str, Message] = {}
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            name = str(len(self._asked))
            message.metadata.__dict__["_message_id"] = name
            self._asked[name] = message
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [
            Message(
                to_record(self.nodes[self._asked[i].metadata.dst_node_id]),
                reply_to=self._asked[i],
            )
            for i in message_ids
        ]


def client(name: str, model_id: str = MODEL) -> Introduction:
    return Introduction(name, model_id, 5, "host")


def names(roster: Roster) -> list[str]:
    return [known.name for known in roster.clients]


def test_clients_are_in_the_order_of_their_names() -> None:
    grid = Nodes({7: client("bert"), 3: client("anna")})
    roster = Roster({"model_id": MODEL})
    roster.refresh(grid, SETTINGS)
    assert names(roster) == ["anna", "bert"]
    assert roster.ordered(grid).get_node_ids() == [3, 7]


def test_nobody_takes_the_name_of_a_client_that_is_here() -> None:
    grid = Nodes({3: client("anna")})
    roster = Roster({"model_id": MODEL})
    roster.refresh(grid, SETTINGS)
    grid.nodes[9] = client("anna")
    roster.refresh(grid, SETTINGS)
    assert roster.ordered(grid).get_node_ids() == [3]


def test_a_client_that_comes_back_as_another_node_has_its_name_again() -> None:
    grid = Nodes({3: client("anna"), 4: client("bert")})
    roster = Roster({"model_id": MODEL})
    roster.refresh(grid, SETTINGS)
    del grid.nodes[3]
    grid.nodes[9] = client("anna")
    roster.refresh(grid, SETTINGS)
    assert roster.ordered(grid).get_node_ids() == [9, 4]
    assert names(roster) == ["anna", "bert"]


def test_a_client_with_another_model_is_named_where_too_few_are_left() -> None:
    grid = Nodes({3: client("anna", "cd" * 16)})
    with pytest.raises(UserError, match=r"client anna \(host\) runs model cdcd"):
        Roster({"model_id": MODEL}).refresh(grid, SETTINGS)


def test_an_answer_of_another_version_is_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Nodes({3: client("anna")})
    monkeypatch.setattr(
        grid,
        "pull_messages",
        lambda ids: [Message(RecordDict(), reply_to=grid._asked[i]) for i in ids],
    )
    settings = replace(SETTINGS, min_clients=1)
    with pytest.raises(UserError, match="same version"):
        Roster({"model_id": MODEL}).refresh(grid, settings)
