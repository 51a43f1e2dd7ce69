"""Which node is which client: asked once of every node that appears."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from ondevice.config import FederateSettings
from ondevice.errors import UserError
from ondevice.federate.exchange import exchange
from ondevice.federate.messages import Introduction, from_record

ASK_TIMEOUT_S = 60.0
WAIT_S = 0.5


class Roster:
    """Nodes that have introduced themselves with the right model, by their names.

    Args:
        manifest: Of the model that all boards must run.
    """

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._model_id = str(manifest["model_id"])
        self._known: dict[int, Introduction] = {}
        self._refused: dict[int, str] = {}

    @property
    def clients(self) -> list[Introduction]:
        """Who is known, by name."""
        return sorted(self._known.values(), key=lambda known: known.name)

    def name_of(self, node: int) -> str:
        """A client's name; the number of a node that has none."""
        known = self._known.get(node)
        return known.name if known is not None else str(node)

    def refresh(self, grid: Grid, settings: FederateSettings) -> None:
        """Waits until enough nodes are there, and asks the new ones who they are.

        Raises:
            UserError: Not enough came within the round's time; or a client has another model.
        """
        deadline_s = time.monotonic() + settings.round_timeout_s
        while True:
            self._ask_new(grid)
            present = [node for node in grid.get_node_ids() if node in self._known]
            if len(present) >= settings.min_clients:
                return
            if time.monotonic() > deadline_s:
                why = f": {next(iter(self._refused.values()))}" if self._refused else ""
                raise UserError(
                    f"{len(present)} clients after {settings.round_timeout_s:g} s, needed: "
                    f"{settings.min_clients} (federate.min_clients){why}"
                )
            time.sleep(WAIT_S)

    def ordered(self, grid: Grid) -> "OrderedGrid":
        """The grid with the known clients alone, by name: sampling repeats in another run."""
        present = [node for node in grid.get_node_ids() if node in self._known]
        return OrderedGrid(sorted(present, key=self.name_of))

    def _ask_new(self, grid: Grid) -> None:
        present = set(grid.get_node_ids())
        new = sorted(node for node in present if node not in self._known)
        messages = [
            Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY)
            for node in new
            if node not in self._refused
        ]
        for reply in exchange(grid, messages, ASK_TIMEOUT_S):
            if reply.has_error():
                continue  # asked again in the next round
            node = reply.metadata.src_node_id
            try:
                found = from_record(Introduction, reply.content)
            except ValueError as error:
                self._refused[node] = str(error)
                continue
            if found.model_id != self._model_id:
                self._refused[node] = (
                    f"client {found.name} ({found.board}) runs model {found.model_id}, the server "
                    f"has {self._model_id}; compile both with the same files and settings"
                )
                continue
            holder = next((n for n, k in self._known.items() if k.name == found.name), node)
            if holder != node and holder in present:
                continue  # nobody takes the name of a client that is here; asked again later
            self._known.pop(holder, None)
            self._known[node] = found


class OrderedGrid:
    """What Flower's sampling needs of a grid."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._nodes = list(nodes)

    def get_node_ids(self) -> list[int]:
        """In order."""
        return self._nodes
