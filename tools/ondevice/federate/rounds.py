"""The server's rounds: Flower samples and averages, we say what travels and what is remembered."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from ondevice.config import FederateSettings
from ondevice.errors import UserError
from ondevice.federate.delta import decode_delta, encode_dense, encode_sparse
from ondevice.federate.exchange import exchange
from ondevice.federate.messages import Order, Report, from_record, to_record
from ondevice.federate.roster import Roster
from ondevice.federate.round_events import (
    ClientFailed,
    FederationEvent,
    GlobalEvaluated,
    RoundEnded,
)
from ondevice.federate.server_state import ServerState
from ondevice.federate.strategies import WEIGHT_KEY, restore_strategy, strategy_state
from ondevice.federate.weights import WeightFormat, Weights, weight_formats, weights_to_device
from ondevice.schedule import Schedule, learning_rate_at

TRIES = 3  # of a round that too few answer
OnEvent = Callable[[FederationEvent], None]


@dataclass(frozen=True)
class Federation:
    """What does not change from round to round.

    Attributes:
        grid: Flower's way to the nodes.
        roster: Who is there.
        manifest: Of the model that all boards run.
        settings: [federate].
        strategy: From `make_strategy`.
        schedule: Learning rate, over rounds.
        seed: Of sampling and of the order of samples.
        evaluate: Measures weights in the device's form on the server's side; None: clients do.
        on_event: Display and files.
    """

    grid: Grid
    roster: Roster
    manifest: Mapping[str, Any]
    settings: FederateSettings
    strategy: FedAvg
    schedule: Schedule
    seed: int
    evaluate: Callable[[Sequence[bytes], int], GlobalEvaluated] | None
    on_event: OnEvent

    @property
    def formats(self) -> list[WeightFormat]:
        """Of the trained weights."""
        return weight_formats(self.manifest)


def run_rounds(
    federation: Federation, state: ServerState, save: Callable[[ServerState], None]
) -> ServerState:
    """Runs the rounds that are left.

    Args:
        federation: What does not change.
        state: After the last round.
        save: Called after every round.

    Raises:
        UserError: Too few clients answered, `TRIES` times.
    """
    federation.roster.refresh(federation.grid, federation.settings)
    restore_strategy(federation.strategy, state.strategy)
    if state.round == 0:
        _evaluate(federation, state)
    for number in range(state.round + 1, federation.settings.rounds + 1):
        state = _run_round(federation, state, number)
        # Before it is saved: a server that ends in between repeats the round, whose updates clients
        # have kept, and misses no measurement.
        if number % federation.settings.evaluate_every == 0 or number == federation.settings.rounds:
            _evaluate(federation, state)
        save(state)
    return state


def _run_round(federation: Federation, state: ServerState, number: int) -> ServerState:
    settings, formats = federation.settings, federation.formats
    begun_s = time.monotonic()
    broadcast = tuple(weights_to_device(formats, state.weights))
    down = _Down(federation, state, broadcast, number)
    reports: Reports = {}
    for _ in range(TRIES):
        asked, reports = _ask(federation, state, down, number, reports)
        if len(reports) >= settings.min_clients:
            break
    else:
        raise UserError(
            f"round {number}: {len(reports)} of {asked} clients answered within "
            f"{settings.round_timeout_s:g} s, {TRIES} times; needed: {settings.min_clients} "
            "(federate.min_clients); what was averaged so far is saved, go on with --resume"
        )
    deltas = {name: delta for name, (_, delta) in reports.items()}
    weights = _average(federation, state, reports, number)
    state = replace(
        state,
        round=number,
        weights=weights,
        broadcast=broadcast,
        held={**state.held, **dict.fromkeys(deltas, number)},
        taken={**state.taken, **dict.fromkeys(deltas, number)},
        strategy=strategy_state(federation.strategy),
    )
    found = [report for report, _ in reports.values()]
    samples = sum(report.samples for report in found)
    federation.on_event(
        RoundEnded(
            round=number,
            asked=asked,
            answered=len(found),
            loss=sum(r.loss * r.samples for r in found) / max(samples, 1),
            train_accuracy=sum(r.correct for r in found) / max(samples, 1),
            up_bytes=sum(len(r.delta) for r in found),
            down_bytes=down.sent_bytes,
            serial_bytes=sum(r.serial_bytes for r in found),
            count=sum(r.count + r.compress_count for r in found),
            compress_count=sum(r.compress_count for r in found),
            attempts=sum(r.attempts for r in found),
            learning_rate=learning_rate_at(federation.schedule, number - 1),
            duration_s=time.monotonic() - begun_s,
        )
    )
    return state


class _Down:
    """Orders of one round: whole weights, or the change of what a client holds."""

    def __init__(
        self, federation: Federation, state: ServerState, broadcast: tuple[bytes, ...], number: int
    ) -> None:
        self._federation, self._state, self._number = federation, state, number
        self._whole = b"".join(broadcast)
        self._change = b""
        if state.broadcast:
            codings = (encode_sparse, encode_dense)
            formats = federation.formats
            self._change = min(
                (code(formats, state.broadcast, broadcast) for code in codings), key=len
            )
        self.sent_bytes = 0

    def order(self, name: str, whole: bool = False) -> RecordDict:
        """For one client."""
        state, settings = self._state, self._federation.settings
        known = not whole and bool(self._change) and state.held.get(name) == state.round
        weights = self._change if known else self._whole
        self.sent_bytes += len(weights)
        return to_record(
            Order(
                federation=state.federation,
                round=self._number,
                base_round=state.round if known else 0,
                weights=weights,
                taken_round=state.taken.get(name, 0),
                learning_rate=learning_rate_at(self._federation.schedule, self._number - 1),
                local_epochs=settings.local_epochs,
                seed=self._federation.seed,
                proximal_mu=settings.proximal_mu if settings.strategy == "fedprox" else 0.0,
            )
        )


Reports = dict[str, tuple[Report, Weights]]


def _ask(
    federation: Federation, state: ServerState, down: _Down, number: int, earlier: Reports
) -> tuple[int, Reports]:
    """One try of a round: how many were asked so far, and the updates by client, in their order.

    Clients that answered an earlier try are not asked again.
    """
    grid, roster, settings = federation.grid, federation.roster, federation.settings
    roster.refresh(grid, settings)
    random.seed(f"{federation.seed}/{number}")  # Flower samples nodes by it
    arrays = ArrayRecord(
        {f.name: Array(w) for f, w in zip(federation.formats, state.weights, strict=True)}
    )
    messages = list(
        federation.strategy.configure_train(number, arrays, ConfigRecord(), roster.ordered(grid))
    )
    messages = [m for m in messages if roster.name_of(m.metadata.dst_node_id) not in earlier]
    for message in messages:
        message.content = down.order(roster.name_of(message.metadata.dst_node_id))
    names = {message.metadata.dst_node_id for message in messages}
    deadline_s = time.monotonic() + settings.round_timeout_s
    reports = dict(earlier)
    again: list[Message] = []
    replies = exchange(grid, messages, settings.round_timeout_s)
    for reply in replies:
        name = roster.name_of(reply.metadata.src_node_id)
        report = _take(federation, reply, name, number, reports)
        if report is not None and report.needs_whole:
            content = down.order(name, whole=True)
            again.append(_train_message(content, reply.metadata.src_node_id))
    for reply in exchange(grid, again, max(deadline_s - time.monotonic(), 1.0)):
        name = roster.name_of(reply.metadata.src_node_id)
        _take(federation, reply, name, number, reports)
    for node in names - {reply.metadata.src_node_id for reply in replies}:
        reason = f"no answer within {settings.round_timeout_s:g} s"
        federation.on_event(ClientFailed(number, roster.name_of(node), reason))
    return len(earlier) + len(messages), {name: reports[name] for name in sorted(reports)}


def _train_message(content: RecordDict, node: int) -> Message:
    return Message(content, dst_node_id=node, message_type=MessageType.TRAIN)


def _take(
    federation: Federation, reply: Message, name: str, number: int, reports: Reports
) -> Report | None:
    """Adds a usable update to the reports; what is none is an event."""
    try:
        if reply.has_error():
            raise ValueError(_last_line(reply.error.reason))
        report = from_record(Report, reply.content)
        if report.needs_whole:
            return report
        if report.round != number or report.samples < 1:
            raise ValueError(f"a report of round {report.round}, {report.samples} samples")
        reports[name] = (report, decode_delta(federation.manifest, report.delta))
        return report
    except (ValueError, UserError) as error:
        federation.on_event(ClientFailed(number, name, str(error)))
        return None


def _last_line(reason: str) -> str:
    """Of a traceback: what failed."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return lines[-1] if lines else "unknown failure"


def _average(federation: Federation, state: ServerState, reports: Reports, number: int) -> Weights:
    """What Flower's strategy makes of the clients' weights: global ones plus their changes."""
    formats = federation.formats
    replies = []
    for report, delta in reports.values():
        arrays = ArrayRecord(
            {
                form.name: Array(np.asarray(weight + change))
                for form, weight, change in zip(formats, state.weights, delta, strict=True)
            }
        )
        metrics = MetricRecord({WEIGHT_KEY: report.samples})
        content = RecordDict({"arrays": arrays, "metrics": metrics})
        replies.append(_train_message(content, 1))
    averaged, _ = federation.strategy.aggregate_train(number, replies)
    if averaged is None:
        raise UserError(f"round {number}: Flower's strategy averaged nothing")
    return tuple(np.asarray(averaged[form.name].numpy(), np.float64) for form in formats)


def _evaluate(federation: Federation, state: ServerState) -> None:
    broadcast = weights_to_device(federation.formats, state.weights)
    if federation.evaluate is not None:
        federation.on_event(federation.evaluate(broadcast, state.round))
        return
    order = Order(state.federation, state.round, 0, b"".join(broadcast), 0, 0.0, 0, 0, 0.0)
    messages = [
        Message(to_record(order), dst_node_id=node, message_type=MessageType.EVALUATE)
        for node in federation.roster.ordered(federation.grid).get_node_ids()
    ]
    reports = []
    for reply in exchange(federation.grid, messages, federation.settings.round_timeout_s):
        if not reply.has_error():
            reports.append(from_record(Report, reply.content))
    samples = sum(report.samples for report in reports)
    if samples:
        correct = sum(report.correct for report in reports)
        loss = sum(report.loss * report.samples for report in reports) / samples
        federation.on_event(GlobalEvaluated(state.round, samples, correct, correct / samples, loss))
