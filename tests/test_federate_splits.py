"""Whose data each client has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.config import Config, FederateSettings
from ondevice.data import Dataset
from ondevice.demo.watch import FEDERATED_PEOPLE, federated_wearers
from ondevice.errors import UserError
from ondevice.federate.fleet import boards_of_fleet
from ondevice.federate.splits import (
    ClientData,
    clients_of_folder,
    deal_wearers,
    pooled,
    shares,
    split_data,
)


@given(
    st.integers(1, 300),
    st.integers(1, 20),
    st.sampled_from(["iid", "dirichlet"]),
    st.floats(0.01, 100),
    st.integers(0, 99),
)
def test_every_sample_goes_to_one_client(
    n: int, clients: int, split: str, alpha: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 5, n)
    parts = shares(labels, clients, split, alpha, seed)
    assert len(parts) == clients
    assert sorted(np.concatenate(parts)) == list(range(n))
    again = shares(labels, clients, split, alpha, seed)
    assert all(map(np.array_equal, parts, again))


def skew(alpha: float) -> float:
    """Mean share of a client's most frequent class."""
    labels = np.repeat(np.arange(5), 200)
    parts = shares(labels, 8, "dirichlet", alpha, 3)
    return float(np.mean([np.bincount(labels[p]).max() / len(p) for p in parts]))


def test_a_small_alpha_gives_clients_few_classes() -> None:
    assert skew(0.05) > 0.6 > 0.35 > skew(100)


def small_set(n: int, source: str = "all") -> Dataset:
    x = np.arange(n, dtype=np.float32)[:, None]
    return Dataset(x, np.arange(n) % 3, x[: n // 2], np.arange(n // 2) % 3, source=source)


def test_more_clients_than_wearers_share_their_samples() -> None:
    wearers = [ClientData(name, small_set(n)) for name, n in (("a", 12), ("b", 9))]
    dealt = deal_wearers(wearers, 5)
    assert [client.name for client in dealt] == ["a-00", "a-01", "a-02", "b-00", "b-01"]
    for letter, n in (("a", 12), ("b", 9)):
        mine = [c.data.x for c in dealt if c.name.startswith(letter)]
        assert sorted(np.concatenate(mine).ravel()) == list(range(n))
    assert deal_wearers(wearers, 1) == wearers[:1]
    with pytest.raises(UserError, match="fewer --clients"):
        deal_wearers(wearers, 40)


def test_the_demos_wearers_are_eight_and_their_test_windows_come_later() -> None:
    wearers = federated_wearers()
    assert tuple(wearers) == FEDERATED_PEOPLE
    assert len(set(wearers)) == 8
    for split in wearers.values():
        train = {window.tobytes() for window in split.adapt_x}
        assert not train & {window.tobytes() for window in split.test_x}


def test_pooled_data_are_all_clients_data() -> None:
    clients = [ClientData("a", small_set(4)), ClientData("b", small_set(6))]
    together = pooled(clients)
    assert (len(together.x), len(together.x_test)) == (10, 5)


def test_own_data_have_no_wearers() -> None:
    config = Config()
    config = replace(config, data=replace(config.data, file=Path("mine.npz")))
    with pytest.raises(UserError, match="--client-data"):
        split_data(config, small_set(20))


def test_a_split_that_leaves_a_client_without_samples_is_refused() -> None:
    config = replace(
        Config(), federate=FederateSettings(split="dirichlet", dirichlet_alpha=0.001, clients=30)
    )
    with pytest.raises(UserError, match="without any"):
        split_data(config, small_set(40))


def test_each_entry_of_a_folder_is_a_client(tmp_path: Path) -> None:
    for name, n in (("anna", 8), ("bert", 6)):
        data = small_set(n)
        np.savez(
            tmp_path / f"{name}.npz", x=data.x, y=data.y, x_test=data.x_test, y_test=data.y_test
        )
    found = clients_of_folder(tmp_path, Config())
    assert [(c.name, len(c.data.x)) for c in found] == [("anna", 8), ("bert", 6)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        clients_of_folder(tmp_path / "empty", Config())
    with pytest.raises(UserError, match="cannot read"):
        clients_of_folder(tmp_path / "missing", Config())


def test_boards_of_a_fleet_are_named_and_counted() -> None:
    settings = FederateSettings(boards="qemu_f405*2, host", clients=3)
    assert boards_of_fleet(settings, "host") == ["qemu_f405", "qemu_f405", "host"]
    assert boards_of_fleet(FederateSettings(clients=2), "host") == ["host", "host"]
    for wrong, complaint in (("2*host", "NAME"), ("nucleo_f446re", "serve"), ("none", "unknown")):
        with pytest.raises(UserError, match=complaint):
            boards_of_fleet(FederateSettings(boards=wrong), "host")
