"""Whose data each client has: by wearer, in shares of one data set, or a folder each."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.config import Config
from ondevice.data import Dataset, check_loss, make_dataset
from ondevice.errors import UserError


@dataclass(frozen=True)
class ClientData:
    """One client's share.

    Attributes:
        name: Of the client.
        data: Its own samples, and its own held-out ones.
    """

    name: str
    data: Dataset


def split_data(config: Config, data: Dataset) -> list[ClientData]:
    """Deals data to the clients of a simulated fleet.

    Args:
        config: [federate] split, clients, dirichlet_alpha; [training] seed; [data] file.
        data: All of it; of the demo, that of one wearer, which is not used.

    Raises:
        UserError: There is not enough for so many clients, or nobody knows whose it is.
    """
    settings, seed = config.federate, config.training.seed
    if settings.split == "wearer":
        if config.data.file is not None:
            raise UserError(
                "federate.split = 'wearer' is the demo's; for data of your own give "
                "--split dirichlet or iid, or one file or folder a client with --client-data"
            )
        from ondevice.demo.watch import federated_wearers

        wearers = [
            ClientData(f"wearer-{person:02d}", make_dataset(parts, f"wearer {person}"))
            for person, parts in federated_wearers().items()
        ]
        return deal_wearers(wearers, settings.clients)
    check_loss(data, "cross_entropy")
    train = shares(data.y, settings.clients, settings.split, settings.dirichlet_alpha, seed)
    test = shares(data.y_test, settings.clients, "iid", settings.dirichlet_alpha, seed)
    if min(map(len, train)) == 0:
        raise UserError(
            f"{len(data.y)} samples for {settings.clients} clients leave one without any; give "
            "fewer --clients or a larger --dirichlet-alpha"
        )
    return [
        ClientData(f"client-{i:03d}", _chosen(data, mine, held, f"client {i}"))
        for i, (mine, held) in enumerate(zip(train, test, strict=True))
    ]


def deal_wearers(wearers: list[ClientData], clients: int) -> list[ClientData]:
    """As many clients as asked for: the first wearers, or each wearer's samples to several clients.

    Args:
        wearers: One each.
        clients: Up to as many as the smallest wearer has samples, times the wearers.

    Raises:
        UserError: There are too few samples.
    """
    if clients <= len(wearers):
        return wearers[:clients]
    dealt = []
    for i, wearer in enumerate(wearers):
        parts = len(range(i, clients, len(wearers)))
        if parts > min(len(wearer.data.x), len(wearer.data.x_test)):
            raise UserError(
                f"{clients} clients of {len(wearers)} wearers: {wearer.name} has "
                f"{len(wearer.data.x)} samples for {parts} of them; give fewer --clients"
            )
        for part in range(parts):
            mine = np.arange(part, len(wearer.data.x), parts)
            held = np.arange(part, len(wearer.data.x_test), parts)
            name = f"{wearer.name}-{part:02d}"
            dealt.append(ClientData(name, _chosen(wearer.data, mine, held, name)))
    return dealt


def shares(
    labels: NDArray[np.int64], clients: int, split: str, alpha: float, seed: int
) -> list[NDArray[np.int64]]:
    """Indices of each client's samples; every sample goes to one client.

    Args:
        labels: [n].
        clients: How many.
        split: "iid" (shuffled and cut), or "dirichlet": each class is dealt in proportions drawn
            from a Dirichlet distribution (Hsu, Qi and Brown, 2019).
        alpha: Of that; small: a client has few classes.
        seed: Of the draw.
    """
    generator = np.random.default_rng([seed, clients])
    if split == "iid":
        order = generator.permutation(len(labels))
        return [np.sort(part) for part in np.array_split(order, clients)]
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        proportions = generator.dirichlet(np.full(clients, alpha))
        cuts = np.rint(np.cumsum(proportions)[:-1] * len(members)).astype(int)
        for part, chosen in zip(parts, np.split(members, cuts), strict=True):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in parts]


def pooled(clients: Iterable[ClientData], source: str = "all clients") -> Dataset:
    """All clients' data as one set, in the clients' order."""
    sets = [client.data for client in clients]
    return Dataset(
        x=np.concatenate([data.x for data in sets]),
        y=np.concatenate([data.y for data in sets]),
        x_test=np.concatenate([data.x_test for data in sets]),
        y_test=np.concatenate([data.y_test for data in sets]),
        class_names=sets[0].class_names,
        source=source,
    )


def clients_of_folder(folder: Path, config: Config) -> list[ClientData]:
    """One client for each file or folder in a folder, named by it.

    Raises:
        UserError: There is none, or one cannot be read.
    """
    from ondevice.datasets.formats import load_samples

    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot read the clients' data: {error.strerror}") from error
    if not entries:
        raise UserError(f"{folder}: is empty; it should hold a data file or folder for each client")
    found = []
    given = None
    for entry in entries:
        data, given = load_samples(entry, config, given)  # all as the first one was normalised
        check_loss(data, config.model.loss)
        found.append(ClientData(entry.stem, data))
    return found


def _chosen(
    data: Dataset, mine: NDArray[np.int64], held: NDArray[np.int64], source: str
) -> Dataset:
    return replace(
        data,
        x=data.x[mine],
        y=data.y[mine],
        x_test=data.x_test[held],
        y_test=data.y_test[held],
        source=f"{data.source}, {source}",
    )
