"""A federation's rounds over host boards: what is averaged, and what is survived."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context

from federation_bench import Bench, client_data, make_fleet, order_of
from ondevice.errors import LinkError, UserError
from ondevice.federate.delta import decode_delta
from ondevice.federate.fleet import Fleet, open_member
from ondevice.federate.local_round import train_round
from ondevice.federate.messages import Order, Report, from_record, to_record
from ondevice.federate.participant import Memory, Participant, load_memory, save_memory
from ondevice.federate.round_events import ClientFailed, GlobalEvaluated, RoundEnded
from ondevice.federate.weights import Weights, weight_formats, weights_to_device

CLIENTS = 3


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Fleet]:
    """Fleets whose firmware and data are built once; tests copy them."""
    root = tmp_path_factory.mktemp("fleets")
    kinds: dict[str, dict[str, Any]] = {
        "dense": {},
        "topk": {"compress": "topk", "compress_ratio": 0.1},
        "proximal": {"proximal": True},
    }
    return {kind: make_fleet(root / kind, CLIENTS, **options) for kind, options in kinds.items()}


@pytest.fixture
def fleets(built: dict[str, Fleet], tmp_path: Path) -> dict[str, Fleet]:
    """The same boards, erased."""

    def fresh(fleet: Fleet, kind: str) -> Fleet:
        members = []
        for member in fleet.members:
            folder = tmp_path / kind / member.name
            folder.mkdir(parents=True)
            (folder / "data.npz").write_bytes((member.folder / "data.npz").read_bytes())
            members.append(replace(member, folder=folder))
        return replace(fleet, members=tuple(members))

    return {kind: fresh(fleet, kind) for kind, fleet in built.items()}


def reports_of(bench: Bench, rounds: int) -> list[dict[str, Report]]:
    """What each client reported in each round, from a run of its own."""
    kept: list[dict[str, Report]] = [{} for _ in range(rounds)]
    original = bench.grid._app

    def spy(message: Any, context: Context) -> Any:
        reply = original(message, context)
        if message.metadata.message_type == "train" and not reply.has_error():
            report = from_record(Report, reply.content)
            if not report.needs_whole:
                name = bench.grid.fleet.members[context.node_id - 1].name
                kept[report.round - 1][name] = report
        return reply

    bench.grid._app = spy
    bench.run(rounds)
    return kept


def rounded(bench: Bench, weights: Weights) -> list[bytes]:
    return weights_to_device(bench.formats, weights)


def test_fedavg_is_the_mean_of_the_changes_weighted_by_samples(
    fleets: dict[str, Fleet], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, fleets["dense"])
    first = bench.first_state().weights
    (reports,) = reports_of(bench, 1)
    assert sorted(reports) == [client_data(i).name for i in range(CLIENTS)]
    total = sum(report.samples for report in reports.values())
    assert total == sum(len(client_data(i).data.x) for i in range(CLIENTS))
    for i, (weight, found) in enumerate(zip(first, bench.states[-1].weights, strict=True)):
        mean = sum(
            report.samples / total * decode_delta(bench.manifest, report.delta)[i]
            for report in reports.values()
        )
        assert np.any(mean != 0)
        np.testing.assert_allclose(found, weight + mean, rtol=0, atol=1e-12)


def test_fedadam_moves_by_its_moments(fleets: dict[str, Fleet], tmp_path: Path) -> None:
    """Reddi et al., Adaptive Federated Optimization, 2021, with the bias correction of Flower."""
    eta, beta1, beta2, tau = 0.02, 0.8, 0.9, 1e-2
    bench = Bench(
        tmp_path,
        fleets["dense"],
        strategy="fedadam",
        server_learning_rate=eta,
        server_beta1=beta1,
        server_beta2=beta2,
        server_tau=tau,
    )
    weights = [w.copy() for w in bench.first_state().weights]
    m = [np.zeros_like(w) for w in weights]
    v = [np.zeros_like(w) for w in weights]
    rounds = reports_of(bench, 2)
    for number, reports in enumerate(rounds):
        total = sum(report.samples for report in reports.values())
        t = number + 2  # round + 1
        rate = eta * np.sqrt(1 - beta2**t) / (1 - beta1**t)
        for i in range(len(weights)):
            mean = sum(
                report.samples / total * decode_delta(bench.manifest, report.delta)[i]
                for report in reports.values()
            )
            m[i] = beta1 * m[i] + (1 - beta1) * mean
            v[i] = beta2 * v[i] + (1 - beta2) * mean**2
            weights[i] = weights[i] + rate * m[i] / (np.sqrt(v[i]) + tau)
            np.testing.assert_allclose(bench.states[number].weights[i], weights[i], atol=1e-9)


def test_clients_that_hold_the_last_weights_get_only_their_change(
    fleets: dict[str, Fleet], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, fleets["topk"])
    state = bench.run(3)
    size = sum(form.size_bytes for form in bench.formats)
    sizes = {
        n: {len(o["weights"]) for _, o in bench.grid.orders if o["round"] == n} for n in (1, 3)
    }
    assert sizes[1] == {size}
    assert max(sizes[3]) < size / 2
    for member in bench.grid.fleet.members:
        memory = load_memory(member.folder / "memory.json", "federation")
        assert memory.held_weights == b"".join(state.broadcast)


def test_a_client_that_forgot_gets_whole_weights_in_the_same_round(
    fleets: dict[str, Fleet], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, fleets["dense"])
    bench.run(1)
    (bench.grid.fleet.members[1].folder / "memory.json").unlink()
    bench.run(2)
    asked = [o["base_round"] for client, o in bench.grid.orders if client == 1]
    assert asked == [0, 1, 0]
    ended = [event for event in bench.events if isinstance(event, RoundEnded)]
    assert [event.answered for event in ended] == [CLIENTS, CLIENTS]


@pytest.mark.parametrize("how", ["failing", "silent"])
def test_a_client_that_drops_out_costs_no_round_and_its_learning_comes_later(
    fleets: dict[str, Fleet], tmp_path: Path, how: str
) -> None:
    bench = Bench(tmp_path, fleets["topk"])
    getattr(bench.grid, how).add((2, 1))
    bench.run(3)
    ended = [event for event in bench.events if isinstance(event, RoundEnded)]
    assert [event.answered for event in ended] == [CLIENTS, CLIENTS - 1, CLIENTS]
    failed = [event for event in bench.events if isinstance(event, ClientFailed)]
    assert [(event.round, event.client) for event in failed] == [(2, "client-1")]
    assert failed[0].reason == ("OSError: gone" if how == "failing" else "no answer within 1 s")
    third = {client: o["taken_round"] for client, o in bench.grid.orders if o["round"] == 3}
    assert third == {0: 2, 1: 1, 2: 2}


def test_too_few_clients_end_the_run_with_what_was_saved(
    fleets: dict[str, Fleet], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, fleets["dense"], min_clients=CLIENTS)
    bench.run(1)
    saved = bench.state_file.read_bytes()
    bench.grid.failing |= {(2, 0)}
    with pytest.raises(UserError, match=r"round 2: 2 of 3 clients .* --resume"):
        bench.run(2)
    assert bench.state_file.read_bytes() == saved
    bench.grid.failing.clear()
    assert bench.run(2).round == 2


@pytest.mark.parametrize("kind", ["dense", "topk"])
def test_a_server_that_ended_within_a_round_goes_on_to_the_same_weights(
    fleets: dict[str, Fleet], tmp_path: Path, kind: str
) -> None:
    """Clients report a round that they have trained again, instead of training it twice."""
    through = Bench(tmp_path, fleets[kind])
    (tmp_path / "other").mkdir()
    wanted = through.run(4)
    fresh = []
    for member in through.grid.fleet.members:
        folder = tmp_path / "other" / member.name
        folder.mkdir()
        (folder / "data.npz").write_bytes((member.folder / "data.npz").read_bytes())
        fresh.append(replace(member, folder=folder))
    fleet = replace(through.grid.fleet, members=tuple(fresh))
    cut = Bench(tmp_path / "other", fleet)
    cut.run(2)
    saved = cut.state_file.read_bytes()
    cut.run(3)
    cut.state_file.write_bytes(saved)  # as if it had ended before it saved round 3
    found = Bench(tmp_path / "other", fleet).run(4)
    assert rounded(through, found.weights) == rounded(through, wanted.weights)
    assert all(map(np.array_equal, found.weights, wanted.weights))


class UnpluggedError(LinkError):
    """The link of a test."""


@contextmanager
def failing_at(fleet: Fleet, steps: list[int], restart: bool) -> Iterator[Participant]:
    """A participant whose link fails at these steps, counted over all attempts."""
    with open_member(fleet, fleet.members[0]) as participant:
        count = 0
        connection = participant.connection

        def spoil() -> None:
            original = connection.device.train

            def train(rate: float | None = None) -> Any:
                nonlocal count
                count += 1
                if count in steps:
                    raise UnpluggedError("cut")
                return original(rate)

            connection.device.train = train  # type: ignore[assignment, method-assign]

        reopen = connection.reopen

        def again() -> Any:
            device = reopen() if restart else connection.device
            spoil()
            return device

        connection.reopen = again  # type: ignore[method-assign]
        spoil()
        yield participant


@pytest.mark.parametrize("kind", ["dense", "topk"])
def test_a_board_that_resets_within_a_round_reports_what_an_undisturbed_one_does(
    fleets: dict[str, Fleet], tmp_path: Path, kind: str
) -> None:
    bench = Bench(tmp_path, fleets[kind])
    deltas = []
    for steps in ([], [5], [3, 12]):
        member = fleets[kind].members[0]
        for name in ("flash.bin", "memory.json"):
            (member.folder / name).unlink(missing_ok=True)
        with failing_at(fleets[kind], steps, restart=True) as participant:
            for number in (1, 2):
                report = train_round(participant, order_of(bench, number))
                deltas.append(report.delta)
            assert report.samples == len(client_data(0).data.x)
    assert deltas[0] != deltas[1]
    assert deltas[:2] == deltas[2:4] == deltas[4:]


def test_a_board_that_keeps_failing_is_given_up(fleets: dict[str, Fleet], tmp_path: Path) -> None:
    bench = Bench(tmp_path, fleets["dense"])
    with (
        failing_at(fleets["dense"], [1, 2, 3, 4], restart=True) as participant,
        pytest.raises(UnpluggedError),
    ):
        train_round(participant, order_of(bench))


def test_the_proximal_term_holds_the_weights_near_the_global_ones(
    fleets: dict[str, Fleet], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, fleets["proximal"])
    moved = []
    for mu in (0.0, 1.0, 10.0):
        member = fleets["proximal"].members[0]
        for name in ("flash.bin", "memory.json"):
            (member.folder / name).unlink(missing_ok=True)
        with open_member(fleets["proximal"], member) as participant:
            report = train_round(participant, order_of(bench, proximal_mu=mu, local_epochs=4))
        delta = decode_delta(bench.manifest, report.delta)
        moved.append(sum(float(np.square(array).sum()) for array in delta))
    assert moved[0] > moved[1] > moved[2] > 0


def test_weights_of_another_model_are_refused_in_words(
    fleets: dict[str, Fleet], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, fleets["dense"])
    with (
        open_member(fleets["dense"], fleets["dense"].members[0]) as participant,
        pytest.raises(UserError, match="compile the same model"),
    ):
        train_round(participant, order_of(bench, weights=b"123"))


def test_clients_measure_the_global_weights_and_lose_nothing_by_it(
    fleets: dict[str, Fleet], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, fleets["topk"])
    bench.run(2)
    measured = [event for event in bench.events if isinstance(event, GlobalEvaluated)]
    assert [event.round for event in measured] == [0, 1, 2]
    assert measured[0].samples == 4 * CLIENTS


def test_messages_of_another_version_are_refused() -> None:
    record = to_record(Report(round=1))
    assert from_record(Report, record) == Report(round=1)
    with pytest.raises(ValueError, match="same version"):
        from_record(Order, record)
    record.config_records["ondevice"]["samples"] = "many"
    with pytest.raises(ValueError, match="samples"):
        from_record(Report, record)


def test_what_a_client_remembers_is_of_one_federation(tmp_path: Path) -> None:
    path = tmp_path / "memory.json"
    memory = Memory("one", 3, b"\x00\xff", Report(3, delta=b"\x80", samples=2))
    save_memory(path, memory)
    assert load_memory(path, "one") == memory
    assert load_memory(path, "another") == Memory("another")
    path.write_text(json.dumps({"federation": "one"}))
    assert load_memory(path, "one") == Memory("one")


def test_formats_of_a_model_name_each_trained_weight(fleets: dict[str, Fleet]) -> None:
    names = [form.name for form in weight_formats(fleets["topk"].model.manifest)]
    assert len(names) == len(set(names)) == 4
    assert not any(name.endswith(".residual") for name in names)
