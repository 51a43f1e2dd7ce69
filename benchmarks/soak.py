"""A soak of the link: a training run of a million frames, of which some are spoilt.

The run is the demo's, in int8 on the host board: the real channel, session and training loop. It
must end with the weights of a run on a clean line. With `--break-every` the link also breaks, in
the middle of frames, and the loop opens another session.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adaptation import BUILD
from spoilt_line import KINDS, FaultyTransport

from ondevice.config import Config, DeviceSettings, TrainingSettings
from ondevice.data import Dataset
from ondevice.events import StepTrained
from ondevice.link.channel import LinkStatistics
from ondevice.link.device import Device
from ondevice.link.timing import Timing
from ondevice.link.transport import ProcessTransport, Transport
from ondevice.outcome import TrainingOutcome
from ondevice.reconnect import Recovery
from ondevice.session import prepare
from ondevice.target import build_for, target_board
from ondevice.train import run_training

NEVER = 2**31
IMPATIENT = Timing(retry_s=0.003, reply_s=60.0, command_s=60.0, connect_s=60.0)


class Kept:
    """A transport that stays open when its device is closed: the board runs on."""

    def __init__(self, inner: Transport) -> None:
        self.name, self.bytes_per_s = inner.name, inner.bytes_per_s
        self.write, self.read = inner.write, inner.read

    def close(self) -> None:
        pass


class Line:
    """The line to one board process, and what it has done to the frames on it.

    Args:
        argv: The board.
        rate: Share of spoilt frames.
        break_every: Frames between two breaks, on average; 0: none.
        seed: Of both.
    """

    def __init__(self, argv: Sequence[str], rate: float, break_every: int, seed: int) -> None:
        self._process = ProcessTransport(argv)
        self._rate, self._break_every, self._seed = rate, break_every, seed
        self._pieces: list[FaultyTransport] = []
        self._devices: list[Device] = []

    def open(self) -> Device:
        """Opens a session, of which the board may have had others."""
        seed = self._seed + len(self._pieces)
        spoilt = FaultyTransport(Kept(self._process), self._rate, seed, self._break_every)
        self._pieces.append(spoilt)
        self._devices.append(Device(spoilt, timing=IMPATIENT))
        return self._devices[-1]

    def clean(self) -> Device:
        """Opens a session on a line that does no harm any more, to look at the board."""
        return Device(Kept(self._process), timing=IMPATIENT)

    def close(self) -> None:
        """Ends the board."""
        self._process.close()

    @property
    def frames(self) -> int:
        """Sent in both directions."""
        return sum(piece.frames for piece in self._pieces)

    @property
    def faults(self) -> Counter[str]:
        """By what people call them."""
        done = sum((piece.faults for piece in self._pieces), Counter[str]())
        return Counter({kind: sum(done[f] for f in faults) for kind, faults in KINDS.items()})

    @property
    def statistics(self) -> list[LinkStatistics]:
        """Of each session."""
        return [device.link_statistics for device in self._devices]


@dataclass(frozen=True)
class Soak:
    """What a soak gave.

    Attributes:
        steps: Training steps.
        frames: In both directions, sent again ones included.
        faults: Frames that were spoilt, by kind.
        retries: Frames that the host sent again.
        sessions: 1, and one more for each break.
        unseen: Steps whose result was lost with the link; they were trained, once.
        equal: The weights, scales and position are those of a run on a clean line.
        seconds: Of the run.
    """

    steps: int
    frames: int
    faults: Counter[str]
    retries: int
    sessions: int
    unseen: int
    equal: bool
    seconds: float


def soak(
    argv: Sequence[str],
    manifest: dict[str, Any],
    data: Dataset,
    steps: int,
    rate: float,
    break_every: int = 0,
    seed: int = 1,
    on_steps: Callable[[int], None] = lambda step: None,
) -> Soak:
    """Trains twice, on a clean line and on one that is not, and compares."""
    settings = TrainingSettings(
        steps=steps, learning_rate=0.01, checkpoint_every_steps=NEVER, rollbacks=0
    )

    def run(line: Line) -> tuple[TrainingOutcome, bytes]:
        device = line.open()
        recovery = Recovery(line.open, lambda device: device.reset_model())
        device.reset_model()
        outcome = run_training(
            device, manifest, data, settings, recovery=recovery,
            on_event=lambda event: on_steps(event.step) if isinstance(event, StepTrained) else None,
        )  # fmt: skip
        return outcome, line.clean().read_scales()

    clean = Line(argv, 0.0, 0, seed)
    expected, expected_scales = run(clean)
    clean.close()
    line = Line(argv, rate, break_every, seed)
    begun = time.monotonic()
    found, found_scales = run(line)
    seconds = time.monotonic() - begun
    line.close()
    unseen = [index for index, loss in enumerate(found.losses) if loss != loss]
    seen_equal = all(
        found.losses[index] == expected.losses[index]
        for index in range(steps)
        if index not in set(unseen)
    )
    return Soak(
        steps=found.steps,
        frames=line.frames,
        faults=line.faults,
        retries=sum(statistics.retries for statistics in line.statistics),
        sessions=len(line.statistics),
        unseen=len(unseen),
        equal=found.parameters == expected.parameters
        and found_scales == expected_scales
        and found.counters.trained == expected.counters.trained
        and seen_equal,
        seconds=seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--break-every", type=int, default=0, help="frames; 0: never")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    config = Config(device=DeviceSettings(board="host"))
    prepared = prepare(config, BUILD, print)
    board = target_board(config.device)
    assert board is not None
    firmware = build_for(prepared.model, board, BUILD)
    steps = -(-asked.frames // 6)  # a sample, its label, TRAIN, and a reply to each
    shown = max(steps // 10, 1)

    def progress(step: int) -> None:
        if step % shown == 0:
            print(f"step {step} of {steps}", flush=True)

    result = soak(
        [str(firmware.elf)], prepared.model.manifest, prepared.sources.data, steps,
        asked.rate, asked.break_every, asked.seed, progress,
    )  # fmt: skip
    print(f"{result.frames:,} frames in {result.seconds:.0f} s, {result.steps:,} training steps")
    faults = ", ".join(f"{count:,} {kind}" for kind, count in result.faults.items())
    print(f"spoilt: {faults}; {100 * result.faults.total() / result.frames:.2f} % of the frames")
    print(f"{result.retries:,} frames sent again by the host")
    print(f"{result.sessions:,} sessions, {result.unseen:,} steps whose result was lost")
    print("weights, scales and position: " + ("as on a clean line" if result.equal else "WRONG"))
    sys.exit(0 if result.equal else 1)


if __name__ == "__main__":
    main()
