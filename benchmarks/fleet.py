"""Eight simulated boards at once from one host process: each adapts the demo to its own wearer.

A board is a QEMU process and a thread of the host. The weights must be those of the same runs one
after the other.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptation import BUILD

from ondevice.config import Config, DeviceSettings, TrainingSettings
from ondevice.data import Dataset, make_dataset
from ondevice.demo import wearer_split
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport
from ondevice.session import prepare
from ondevice.target import build_for, target_board
from ondevice.train import run_training

BOARD = "qemu_f405"
WEARERS = tuple((person, rotated) for rotated in (True, False) for person in range(6, 11))[:8]


@dataclass(frozen=True)
class Trained:
    """What a board learnt.

    Attributes:
        wearer: Of `WEARERS`, or any name.
        parameters: At the end.
        accuracy: Before and after, on the wearer's held-out samples.
        instructions: Of all training steps.
        board_bytes: The most memory that the simulator's process had.
    """

    wearer: object
    parameters: tuple[bytes, ...]
    accuracy: tuple[float | None, float | None]
    instructions: int
    board_bytes: int


@dataclass(frozen=True)
class Fleet:
    """All boards at once, and one after the other.

    Attributes:
        together, alone: In the order of the wearers.
        together_s, alone_s: Wall time.
        host_bytes: The most memory that this process had, with all boards running.
    """

    together: list[Trained]
    alone: list[Trained]
    together_s: float
    alone_s: float
    host_bytes: int

    @property
    def equal(self) -> bool:
        """Whether every board learnt the same in company."""
        pairs = zip(self.together, self.alone, strict=True)
        return all((a.parameters, a.accuracy) == (b.parameters, b.accuracy) for a, b in pairs)


def train_fleet(
    argv: Sequence[str],
    manifest: dict[str, Any],
    data: Sequence[tuple[object, Dataset]],
    settings: TrainingSettings,
) -> Fleet:
    """Trains one board a data set, all at once and then one after the other."""

    def train(task: tuple[object, Dataset]) -> Trained:
        wearer, samples = task
        # The board ends with the thread that started it, so it is opened and closed in this one.
        transport = ProcessTransport(argv)
        with Device(transport) as device:
            outcome = run_training(device, manifest, samples, settings)
            board_bytes = _peak_bytes(transport.pid)
        before, after = outcome.before, outcome.after
        return Trained(
            wearer,
            tuple(outcome.parameters),
            (before.accuracy if before else None, after.accuracy if after else None),
            int(outcome.counts.sum()),
            board_bytes,
        )

    begun = time.monotonic()
    with ThreadPoolExecutor(len(data)) as threads:
        together = list(threads.map(train, data))
    together_s = time.monotonic() - begun
    host_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    begun = time.monotonic()
    alone = [train(task) for task in data]
    return Fleet(together, alone, together_s, time.monotonic() - begun, host_bytes)


def _peak_bytes(process: int) -> int:
    """The largest resident memory so far; 0 where the system does not say."""
    status = Path(f"/proc/{process}/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return 1024 * int(found[1]) if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    asked = parser.parse_args()
    config = Config(device=DeviceSettings(board=BOARD))
    prepared = prepare(config, BUILD, print)
    board = target_board(config.device)
    assert board is not None
    from ondevice.build import simulate_command

    argv = simulate_command(build_for(prepared.model, board, BUILD), board)
    data = [(wearer, make_dataset(wearer_split(*wearer), f"wearer {wearer}")) for wearer in WEARERS]
    fleet = train_fleet(argv, prepared.model.manifest, data, TrainingSettings(epochs=asked.epochs))
    for trained in fleet.together:
        before, after = (100 * (share or 0.0) for share in trained.accuracy)
        print(
            f"wearer {trained.wearer}: accuracy {before:.1f} % -> {after:.1f} %, "
            f"{trained.instructions:,} instructions"
        )
    largest = max(trained.board_bytes for trained in fleet.together)
    print(
        f"{len(data)} boards at once: {fleet.together_s:.0f} s; one after the other: "
        f"{fleet.alone_s:.0f} s; {fleet.alone_s / fleet.together_s:.2f} times as fast"
    )
    print(f"memory: host {fleet.host_bytes / 2**20:.0f} MB, each board {largest / 2**20:.0f} MB")
    print("weights and accuracies: " + ("as one after the other" if fleet.equal else "WRONG"))
    sys.exit(0 if fleet.equal else 1)


if __name__ == "__main__":
    main()
