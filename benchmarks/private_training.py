"""Accuracy of the demo with and without DP-SGD, by the device's code on the host board.

    .venv/bin/python benchmarks/private_training.py

Prints the table of docs/privacy-dp.md. The learning rates are of a few tries by hand on these data,
which a real promise of privacy would have to pay for, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from adaptation import BUILD

from ondevice.build import simulate_command
from ondevice.config import Config, DeviceSettings, ModelSettings, TrainingSettings
from ondevice.data import Dataset, make_dataset
from ondevice.demo.watch import WatchSplit, federated_wearers, wearer_split
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport
from ondevice.privacy.accountant import Mechanism, noise_for, usual_delta
from ondevice.session import prepare
from ondevice.target import build_for, target_board
from ondevice.train import run_training

EPSILONS = (8.0, 3.0)
CLIP_NORM, LOT, EPOCHS = 1.0, 16, 5


@dataclass(frozen=True)
class Trial:
    """One row.

    Attributes:
        epsilon: None: without DP-SGD.
        noise_multiplier: Of it.
        ram_bytes: Of the model's buffers.
        before, after: Accuracy on held-out samples; `after` for each seed.
    """

    epsilon: float | None
    noise_multiplier: float
    ram_bytes: int
    before: float
    after: tuple[float, ...]


def trials(data: Dataset, scheme: str, seeds: int) -> Iterator[Trial]:
    """Trains without DP-SGD and for each epsilon."""
    samples = len(data.x)
    mechanism = Mechanism(samples, LOT, -(-samples * EPOCHS // LOT))
    for epsilon in (None, *EPSILONS):
        noise = noise_for(mechanism, epsilon, usual_delta(samples)) if epsilon else 0.0
        clip = CLIP_NORM if epsilon else None
        model = ModelSettings(
            scheme=scheme,
            accumulation_steps=LOT,
            dp_clip_norm=clip,
            dp_noise_multiplier=round(noise, 4),
        )
        config = Config(model=model, device=DeviceSettings(board="host"))
        prepared = prepare(config, BUILD, lambda line: None)
        board = target_board(config.device)
        assert board is not None
        manifest = prepared.model.manifest
        after, before = [], 0.0
        command = simulate_command(build_for(prepared.model, board, BUILD), board)
        with Device(ProcessTransport(command)) as device:
            for seed in range(seeds):
                device.reset_model()
                rate = 0.5 if epsilon else 0.1
                settings = TrainingSettings(epochs=EPOCHS, learning_rate=rate, seed=seed)
                outcome = run_training(device, manifest, data, settings)
                assert outcome.before is not None
                assert outcome.after is not None
                before = outcome.before.accuracy or 0.0
                after.append(outcome.after.accuracy or 0.0)
        ram_bytes = int(manifest["memory"]["ram_bytes"])
        yield Trial(epsilon, noise, ram_bytes, before, tuple(after))


def pooled(splits: dict[int, WatchSplit]) -> Dataset:
    """All wearers' windows together."""
    first = next(iter(splits.values()))
    parts = {
        key: np.concatenate([split[key] for split in splits.values()])
        for key in ("x", "y", "x_test", "y_test")
    }
    return make_dataset({**parts, "class_names": np.array(first.class_names)}, "eight wearers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", default="last")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print("| data | epsilon | noise multiplier | before | after, mean and range | RAM |")
    print("|---|---|---|---|---|---|")
    for name, data in (
        ("one wearer", make_dataset(wearer_split(), "one wearer")),
        ("eight wearers", pooled(federated_wearers())),
    ):
        for t in trials(data, asked.scheme, asked.seeds):
            after = 100 * np.array(t.after)
            print(
                f"| {name}, {len(data.x)} windows | {t.epsilon or 'no DP-SGD'} | "
                f"{t.noise_multiplier:.3f} | {100 * t.before:.1f} % | {after.mean():.1f} % "
                f"({after.min():.1f} to {after.max():.1f}) | {t.ram_bytes:,} B |",
                flush=True,
            )


if __name__ == "__main__":
    main()
