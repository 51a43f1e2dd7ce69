"""Federated runs of the demo's wearers: strategies, compression, failures, and the cost of a fleet.

    make federated                      every part, then docs/federated-results.md and its picture
    make federated ARGS="--part scale"  one part anew, the others as they were measured

Each part's figures are kept in build/federated/PART.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ondevice.config import Config
from ondevice.evaluation import evaluate, pack_samples
from ondevice.federate.round_events import ClientFailed, FederationEvent, RoundEnded
from ondevice.federate.run import (
    evaluation_board,
    federated_config,
    prepare_federation,
    read_rounds,
    run_federation,
)
from ondevice.federate.server_state import load_state
from ondevice.federate.splits import pooled
from ondevice.federate.weights import weight_formats, weights_to_device
from ondevice.plot import Picture
from ondevice_compiler.atomic_file import write_bytes_atomically, write_text_atomically

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
KEPT = BUILD / "federated"
ROUNDS = 30
SEEDS = (0, 1, 2)
FLEET_SIZES = (8, 16, 32, 64, 100)
QEMU_ROUNDS = 5
KILLED = ("wearer-04", "wearer-05")
KILLED_ROUND = 10
MOMENTUM = {"optimizer": "momentum"}


@dataclass(frozen=True)
class Kind:
    """A row: settings, and the learning rate of its clients."""

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    federate: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.01
    seeds: tuple[int, ...] = SEEDS


STRATEGIES = (
    Kind("FedAvg"),
    Kind("FedProx, mu 0.1", {}, {"strategy": "fedprox", "proximal_mu": 0.1}, seeds=(0,)),
    Kind(
        "FedAdam, rate 0.003",
        {},
        {"strategy": "fedadam", "server_learning_rate": 0.003},
        seeds=(0,),
    ),
)
LONGER_ROUNDS = 100
LONGER = Kind(
    f"FedAvg, {LONGER_ROUNDS} rounds",
    {},
    {"rounds": LONGER_ROUNDS, "evaluate_every": LONGER_ROUNDS},
    rate=0.03,
)
CODECS = (  # beside the first strategy, which is dense
    Kind("int8", {"compress": "int8"}, seeds=(0,)),
    Kind("ternary", {"compress": "ternary"}, seeds=(0,)),
    Kind("sign", {"compress": "sign"}, seeds=(0,)),
    Kind("top-k 10 %", {"compress": "topk", "compress_ratio": 0.1}, seeds=(0,)),
    Kind("top-k 1 %", {"compress": "topk"}),
    Kind("dense, momentum", MOMENTUM, rate=0.002),
    Kind("top-k 1 %, momentum", {**MOMENTUM, "compress": "topk"}, rate=0.002),
)


def config_of(
    model: dict[str, Any], federate: dict[str, Any], rate: float, seed: int, **output: Any
) -> Config:
    """Settings of one run."""
    base = Config()
    return replace(
        base,
        model=replace(base.model, **model),
        training=replace(base.training, learning_rate=rate, seed=seed),
        federate=replace(base.federate, **{"rounds": ROUNDS, "evaluate_every": ROUNDS, **federate}),
        output=replace(base.output, directory=KEPT / "runs", **output),
    )


def run(config: Config, on_event: Callable[[FederationEvent], None] = lambda e: None) -> Path:
    """Runs a federation; returns its folder."""
    return run_federation(config, BUILD, on_event, lambda line: None).folder


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


def rows(kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    """Each kind over its seeds."""
    found = []
    for kind in kinds:
        configs = (config_of(kind.model, kind.federate, kind.rate, seed) for seed in kind.seeds)
        figures = [summary(run(config)) for config in configs]
        found.append(
            {
                "name": kind.name,
                "rate": kind.rate,
                "accuracy": [f["accuracy"] for f in figures],
                "before": figures[0]["accuracy_before"],
                "update_bytes": statistics.mean(f["update_bytes"] for f in figures),
                "down_bytes": statistics.mean(f["down_bytes"] / f["updates"] for f in figures),
                "dense_bytes": figures[0]["dense_update_bytes"],
                "ram_bytes": figures[0]["ram_bytes"],
            }
        )
        print(found[-1], flush=True)
    return found


def pooled_accuracy(seed: int, epochs: int = ROUNDS) -> float:
    """The same network trained on all clients' data on one board, as often as a client sees its."""
    config = federated_config(config_of({}, {}, 0.01, seed))
    clients, model = prepare_federation(config, BUILD, lambda line: None)
    data, manifest = pooled(clients), model.manifest
    train = pack_samples(manifest, data.x, data.y)
    test = pack_samples(manifest, data.x_test, data.y_test)
    generator = np.random.default_rng(seed)
    with evaluation_board(model, BUILD) as connection:
        device = connection.device
        for epoch in range(epochs):
            for index in generator.permutation(len(train)):
                device.write_input(train[index][0])
                device.write_label(train[index][1])
                device.train(0.01 * (1 - epoch / epochs))
        measured = evaluate(device, manifest, test)
    assert measured is not None
    assert measured.accuracy is not None
    return measured.accuracy


def wearers() -> dict[str, Any]:
    return {"rows": rows(STRATEGIES), "pooled": [pooled_accuracy(seed) for seed in SEEDS]}


def longer() -> dict[str, Any]:
    """FedAvg given more rounds, and pooled training as many epochs."""
    pooled_found = [pooled_accuracy(seed, LONGER_ROUNDS) for seed in SEEDS]
    return {"rows": rows([LONGER]), "pooled": pooled_found}


def compression() -> dict[str, Any]:
    return {"rows": rows(CODECS)}


def same_in_qemu() -> dict[str, Any]:
    """The same rounds on host boards alone, and on as many QEMU boards among them."""
    weights, counts = [], []
    for boards in ("host*8", "qemu_f405*4,host*4"):
        folder = run(
            config_of({"compress": "topk"}, {"rounds": QEMU_ROUNDS, "boards": boards}, 0.01, 0)
        )
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        state = load_state(folder / "server.npz")
        weights.append(weights_to_device(weight_formats(manifest), state.weights))
        rounds, _ = read_rounds(folder)
        counts.append({key: sum(r[key] for r in rounds) for key in ("count", "compress_count")})
        found = summary(folder)
    return {
        "equal": weights[0] == weights[1],
        "rounds": QEMU_ROUNDS,
        "accuracy": found["accuracy"],
        "count_a_round": counts[1]["count"] / QEMU_ROUNDS / 4,
        "compress_a_round": counts[1]["compress_count"] / QEMU_ROUNDS / 4,
    }


def failures() -> dict[str, Any]:
    """Two clients' boards are killed whenever they run, throughout one round."""
    ended, failed = [], []
    over, watching = threading.Event(), threading.Event()

    def on_event(event: FederationEvent) -> None:
        if isinstance(event, RoundEnded):
            ended.append(event.answered)
            if event.round == KILLED_ROUND - 1:
                watching.set()
            elif event.round == KILLED_ROUND:
                over.set()
        elif isinstance(event, ClientFailed):
            failed.append((event.round, event.client))

    kills = 0

    def kill() -> None:
        nonlocal kills
        watching.wait()
        while not over.is_set():
            for pid in boards_of(KILLED):
                kills += 1
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    figures = summary(run(config_of({"compress": "topk"}, {}, 0.01, 0), on_event))
    over.set()
    return {
        "accuracy": figures["accuracy"],
        "answered": ended,
        "failed": failed,
        "kills": kills,
    }


def boards_of(names: Sequence[str]) -> Iterator[int]:
    """Processes of these clients' boards."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        runs_firmware = "firmware" in command.partition("\0")[0]
        if runs_firmware and any(f"/{name}/flash" in command for name in names):
            yield int(entry.name)


def scale() -> dict[str, Any]:
    """Three rounds of ever more clients that share the wearers' samples."""
    sizes = []
    for clients in FLEET_SIZES:
        folder = run(config_of({"compress": "topk"}, {"clients": clients, "rounds": 3}, 0.01, 0))
        rounds, _ = read_rounds(folder)
        later = rounds[1:]  # the first also packs data and starts Ray's workers
        sizes.append(
            {
                "clients": clients,
                "answered": [r["answered"] for r in rounds],
                "duration_s": statistics.mean(r["duration_s"] for r in later),
                "up_bytes": statistics.mean(r["up_bytes"] for r in later),
                "down_bytes": statistics.mean(r["down_bytes"] for r in later),
                "serial_bytes": statistics.mean(r["serial_bytes"] for r in later),
                "accuracy": summary(folder)["accuracy"],
            }
        )
        print(sizes[-1], flush=True)
    return {"sizes": sizes}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "wearers": wearers,
    "longer": longer,
    "compression": compression,
    "qemu": same_in_qemu,
    "failures": failures,
    "scale": scale,
}


def draw(path: Path, sizes: list[dict[str, Any]]) -> None:
    figure = Picture(figsize=(8, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    clients = [s["clients"] for s in sizes]
    left.plot(clients, [s["duration_s"] for s in sizes], "o-")
    left.set_ylabel("seconds a round, this computer")
    for key, label in (("up_bytes", "up"), ("down_bytes", "down"), ("serial_bytes", "board links")):
        right.plot(clients, [s[key] / 1024 for s in sizes], "o-", label=label)
    right.set_ylabel("KB a round, all clients")
    right.set_yscale("log")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("clients")
        axes.set_ylim(bottom=0 if axes is left else None)
    write_bytes_atomically(path, figure.png())


def percent(values: Sequence[float]) -> str:
    mean = 100 * statistics.mean(values)
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean:.1f}{spread}"


INTRODUCTION = """# Federated runs, measured

Made by `make federated`. Eight people of the demo, each with the watch turned, are eight clients;
nothing but the changes of trained weights leaves them. The network was pretrained on people 1 to 5
with the watch the right way round; so three of the eight it has met, though not so. Each learns on
the first 30 % of its recordings; accuracy is on the rest of all eight (1,141 windows), by the
device's code on a host board. {rounds} rounds, where nothing else stands, of one local epoch, batch
1, int8, update full; mean and standard deviation over {seeds} seeds, or seed 0 alone. Before:
{before} %.

## Strategies

| | client's learning rate | accuracy, % | RAM of the model, B |
|---|---|---|---|
{strategies}
| pooled: one board, all data, {rounds} epochs | 0.01 | {pooled} | {ram:,} |
| pooled, {longer_rounds} epochs | 0.01 | {pooled_longer} | {ram:,} |

Pooled training, for which all data would have to be collected, makes eight times the updates of a
client in as many epochs. After {rounds} rounds FedAvg is {gap:.1f} points below {rounds} pooled
epochs; after {longer_rounds} rounds at a higher rate it is {gap_longer:.1f} below those and
{gap_longest:.1f} below {longer_rounds} pooled epochs. Rate and rounds were chosen with seed 0, from
eight settings; the pooled rate was not searched.

Four QEMU boards (STM32F405) and four host boards give after {qemu_rounds} rounds of top-k 1 %
global weights that are {equal} as those of eight host boards. A QEMU board executes {count:,.1f}
million instructions a round, of which {compress:,.2f} million compress its update.

## Compression

*Update*: what a client sends a round. *Down*: what it gets, the change of the weights it holds,
coded sparse where that is shorter (the first round sends them whole).

| update | client's rate | accuracy, % | update, B | less by | down, B | RAM of the model, B |
|---|---|---|---|---|---|---|
{codecs}

## Failures

The boards of {killed} were killed (SIGKILL) whenever they ran, all through round {killed_round}:
{kills} kills. That round was averaged over {left} clients, the other {others} over {all}; no round
was lost. Accuracy in the end: {after_kills} % (top-k 1 %, seed 0).

## Cost of a round as clients grow

The wearers' samples are dealt to more and more host boards; top-k 1 %. Seconds are of this computer
(two cores, busy with other work), with Flower, Ray and a process for each board: they say nothing
of a fleet of real boards, which work at the same time.

| clients | answered | s a round | up, B | down, B | boards' links, B | accuracy after 3 rounds, % |
|---|---|---|---|---|---|---|
{sizes}

![seconds and bytes a round over the number of clients](images/federated-scale.png)
"""


def page(found: dict[str, dict[str, Any]]) -> str:
    """docs/federated-results.md."""
    strategies = [*found["wearers"]["rows"], *found["longer"]["rows"]]
    dense = {**strategies[0], "name": "dense"}
    codecs = [dense, *found["compression"]["rows"]]
    pooled_mean = statistics.mean(found["wearers"]["pooled"])
    longest_mean = statistics.mean(found["longer"]["pooled"])
    short, long = (statistics.mean(strategies[i]["accuracy"]) for i in (0, -1))
    qemu, failed = found["qemu"], found["failures"]
    answered = failed["answered"]
    return INTRODUCTION.format(
        rounds=ROUNDS,
        seeds=len(SEEDS),
        before=percent([strategies[0]["before"]]),
        strategies="\n".join(
            f"| {r['name']} | {r['rate']} | {percent(r['accuracy'])} | {r['ram_bytes']:,} |"
            for r in strategies
        ),
        pooled=percent(found["wearers"]["pooled"]),
        ram=dense["ram_bytes"],
        longer_rounds=LONGER_ROUNDS,
        pooled_longer=percent(found["longer"]["pooled"]),
        gap=100 * (pooled_mean - short),
        gap_longer=100 * (pooled_mean - long),
        gap_longest=100 * (longest_mean - long),
        qemu_rounds=qemu["rounds"],
        equal="byte for byte the same" if qemu["equal"] else "**not the same**",
        count=qemu["count_a_round"] / 1e6,
        compress=qemu["compress_a_round"] / 1e6,
        codecs="\n".join(map(codec_row, codecs)),
        killed=" and ".join(KILLED),
        killed_round=KILLED_ROUND,
        kills=failed["kills"],
        left=answered[KILLED_ROUND - 1],
        others=len(answered) - 1,
        all=min(answered[: KILLED_ROUND - 1] + answered[KILLED_ROUND:]),
        after_kills=percent([failed["accuracy"]]),
        sizes="\n".join(map(size_row, found["scale"]["sizes"])),
    )


def codec_row(row: dict[str, Any]) -> str:
    factor = row["dense_bytes"] / row["update_bytes"]
    return (
        f"| {row['name']} | {row['rate']} | {percent(row['accuracy'])} | "
        f"{row['update_bytes']:,.0f} | {factor:.1f}x | {row['down_bytes']:,.0f} | "
        f"{row['ram_bytes']:,} |"
    )


def size_row(size: dict[str, Any]) -> str:
    return (
        f"| {size['clients']} | {min(size['answered'])} | {size['duration_s']:.1f} | "
        f"{size['up_bytes']:,.0f} | {size['down_bytes']:,.0f} | {size['serial_bytes']:,.0f} | "
        f"{percent([size['accuracy']])} |"
    )


def main() -> int:
    """Runs the parts that are asked for and writes the page from all that were run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append")
    arguments = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    for part in arguments.part or PARTS:
        print(f"{part} ...", flush=True)
        write_text_atomically(KEPT / f"{part}.json", json.dumps(PARTS[part](), indent=1) + "\n")
    found = {}
    for part in PARTS:
        path = KEPT / f"{part}.json"
        if not path.exists():
            print(f"{part} was never run: docs/federated-results.md stays as it is")
            return 0
        found[part] = json.loads(path.read_text(encoding="utf-8"))
    draw(ROOT / "docs" / "images" / "federated-scale.png", found["scale"]["sizes"])
    write_text_atomically(ROOT / "docs" / "federated-results.md", page(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
