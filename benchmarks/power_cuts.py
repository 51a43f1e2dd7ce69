"""Kills a simulated board at random times while it trains and saves checkpoints without a pause.

SIGKILL is the cut of power: the flash is a file whose every write has happened or not. After each
one the board is started again, and what it starts with is compared, byte for byte, with the weights
that a second implementation of the model says it had at that save.

    python benchmarks/power_cuts.py --cuts 500       writes the figures into docs/reliability.md
"""

import argparse
import contextlib
import os
import random
import signal
import struct
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ondevice.boards import load_board
from ondevice.build import Firmware, build_firmware, simulate_command
from ondevice.errors import LinkError
from ondevice.flash_file import prepare_flash_file
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "reliability.md"
MARKS = "<!-- power cuts: make power-cuts -->", "<!-- end of power cuts -->"
BOARD = "qemu_f405"
TABLE_BYTES = 12000  # of the fake model: ten records a bank
LEARNING_RATE = 0.25
PAYLOAD_BYTES = 16 + TABLE_BYTES + 40
_LOAD_BEST_EVERY = 5  # cuts; it is compared in flash after each
BANK, RECORD = struct.Struct("<4sIII I"), struct.Struct("<4sI16sII QIIII d IfII")


class PowerCutError(Exception):
    """The board started with something that it never saved, or lost what it had saved."""


@dataclass
class Model:
    """What tests/c/fake_model.c must hold, worked out a second time."""

    weights: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    table: bytearray = field(
        default_factory=lambda: bytearray(i * 7 % 256 for i in range(TABLE_BYTES))
    )
    steps: int = 0

    def train(self) -> None:
        """The step that follows."""
        value = self.weights[1] * 31
        for byte in sample(self.steps):
            value = (value * 31 + byte) % 2**32
        self.weights[0] += 1
        self.weights[1] = (value * 31 + self.steps % 7) % 2**32
        self.weights[2] = (self.weights[2] * 31 + int(LEARNING_RATE * 1024)) % 2**32
        self.table[self.weights[1] % TABLE_BYTES] ^= self.weights[0] % 256
        self.steps += 1

    def image(self) -> tuple[bytes, bytes, bytes]:
        """Both parameters and the gradient scales."""
        scales = struct.pack("<12xii", self.steps, 0) + struct.pack("<12xii", 0, 2 * self.steps)
        return struct.pack("<4I", *self.weights), bytes(self.table), scales

    def copy(self) -> "Model":
        """One that goes on by itself."""
        return Model(list(self.weights), bytearray(self.table), self.steps)


def sample(step: int) -> bytes:
    """Input of a step."""
    return bytes((step * 37 + i * 11) % 256 for i in range(600))


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was saved, or was being saved when power went."""

    sequence: int
    loss: float
    model: Model


@dataclass(frozen=True)
class Bank:
    """One bank of the flash file, read by these lines alone.

    Attributes:
        erases: Of a header that is whole; None: it is not.
        whole: (sequence, offset) of each whole record.
        torn: Offsets of records that are not; the last may be a mere beginning.
    """

    erases: int | None
    whole: tuple[tuple[int, int], ...]
    torn: tuple[int, ...]


def read_bank(content: bytes, unit: int) -> Bank:
    """Reads the layout of runtime/include/ondevice/checkpoint_log.h."""

    def padded(size: int) -> int:
        return -(-size // unit) * unit

    magic, version, erases, _, crc = BANK.unpack_from(content)
    valid = (magic, version) == (b"ODBK", 1) and crc == zlib.crc32(content[: BANK.size - 4])
    at, whole, torn = padded(BANK.size), [], []
    while at + padded(RECORD.size) <= len(content):
        header = content[at : at + RECORD.size]
        fields = RECORD.unpack(header)
        sequence, size, payload_crc, crc = fields[3], fields[4], fields[-2], fields[-1]
        if fields[0] != b"ODCP" or crc != zlib.crc32(header[:-4]):
            if content[at:].strip(b"\xff"):
                torn.append(at)
            break
        payload = at + padded(RECORD.size)
        commit = payload + padded(size)
        committed = content[commit : commit + 8] == struct.pack("<II", sequence, crc)
        if committed and zlib.crc32(content[payload : payload + size]) == payload_crc:
            whole.append((sequence, at))
        else:
            torn.append(at)
        at = commit + padded(8)
    return Bank(erases if valid else None, tuple(whole), tuple(torn))


@dataclass
class Figures:
    """What the cuts were and left.

    Attributes:
        cuts: Kills.
        in_write: Of them while a record was being written: it is torn.
        in_erase: While a bank was being erased, or before its header was whole.
        unanswered: Saves that were whole although their answer never came.
        saves: That were answered.
        erases: Of both banks.
    """

    cuts: int = 0
    in_write: int = 0
    in_erase: int = 0
    unanswered: int = 0
    saves: int = 0
    erases: int = 0


class Victim:
    """A board, its flash, and what that must hold.

    Args:
        folder: For firmware and flash.
        seed: Of losses and of the times of cuts.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.figures = Figures()
        self._board = load_board(BOARD)
        self._firmware = _build(folder)
        self._flash = prepare_flash_file(folder / "flash.bin", self._board)
        self._random = random.Random(seed)
        self._newest: Saved | None = None
        self._best: Saved | None = None
        self._pending: Saved | None = None
        self._save_s = 0.0  # the last one's, so that cuts fall into saves on any computer

    def live_and_die(self) -> None:
        """Starts, looks at what is there, trains and saves until the power goes.

        Raises:
            PowerCutError: What the flash holds is wrong.
        """
        transport = ProcessTransport(
            simulate_command(self._firmware, self._board, self._flash), name=BOARD
        )
        with Device(transport) as device:
            model = self._check(device)
            if self.figures.saves == 0:
                self._train(device, model)
                self._save(device, model)
            before = self._banks()
            content = self._flash.read_bytes()
            for _ in range(self._random.randrange(3)):
                self._train(device, model)
                self._save(device, model)
            # From just before a save to a little after it.
            delay_s = self._random.uniform(0.0, 1.2 * self._save_s)
            killer = threading.Timer(delay_s, os.killpg, (transport.pid, signal.SIGKILL))
            with contextlib.suppress(LinkError):
                self._train(device, model)
                killer.start()
                while True:
                    self._save(device, model)
                    self._train(device, model)
            killer.join()
        self.figures.cuts += 1
        self._classify(before, content)

    def _train(self, device: Device, model: Model) -> None:
        device.write_input(sample(model.steps))
        device.write_label(struct.pack("<I", model.steps % 7))
        device.train(LEARNING_RATE)
        model.train()

    def _save(self, device: Device, model: Model) -> None:
        sequence = self._newest.sequence + 1 if self._newest is not None else 1
        self._pending = Saved(sequence, self._random.randint(1, 400) / 8, model.copy())
        begun_s = time.monotonic()
        given = device.save_checkpoint(self._pending.loss)
        self._save_s = time.monotonic() - begun_s
        if given != sequence:
            raise PowerCutError(f"checkpoint {given} was saved, {sequence} was due")
        self.figures.saves += 1
        self._take(self._pending)

    def _take(self, saved: Saved) -> None:
        self._newest, self._pending = saved, None
        if self._best is None or saved.loss <= self._best.loss:
            self._best = saved

    def _check(self, device: Device) -> Model:
        """Compares newest and best with what was saved; returns where the model is."""
        found = device.checkpoints()
        in_file = [sequence for bank in self._banks() for sequence, _ in bank.whole]
        if max(in_file, default=None) != (found[0].sequence if found else None):
            raise PowerCutError(f"the board lists {found[:1]}, its flash holds {in_file}")
        if found and self._pending is not None and found[0].sequence == self._pending.sequence:
            self.figures.unanswered += 1
            self._take(self._pending)
        self._pending = None
        if self._newest is None or self._best is None:
            if device.info.restored:
                raise PowerCutError("the board started with a checkpoint that nobody saved")
            return Model()
        if not found or found[0].sequence != self._newest.sequence:
            raise PowerCutError(f"newest: {found[:1]}, saved was {self._newest.sequence}")
        self._compare(device, self._newest)
        if self._best.sequence not in (best.sequence for best in found if best.best):
            raise PowerCutError(f"best: {found}, saved was {self._best.sequence}")
        for saved in (self._newest, self._best):
            if b"".join(saved.model.image()) not in self._payloads(saved.sequence):
                raise PowerCutError(f"checkpoint {saved.sequence} is not in flash as it was saved")
        if self.figures.cuts % _LOAD_BEST_EVERY == 0:
            device.load_checkpoint("best")
            self._compare(device, self._best)
            device.load_checkpoint()
        return self._newest.model.copy()

    def _payloads(self, sequence: int) -> list[bytes]:
        """Parameters and scales of a record and of its copy, as they lie in flash."""
        content, size = self._flash.read_bytes(), self._board.storage_bank_bytes
        starts = [
            index * size + at + RECORD.size  # a multiple of the board's units of 4
            for index, bank in enumerate(self._banks())
            for number, at in bank.whole
            if number == sequence
        ]
        return [content[start : start + PAYLOAD_BYTES] for start in starts]

    def _compare(self, device: Device, saved: Saved) -> None:
        image = (*device.read_parameters(), device.read_scales())
        if image != saved.model.image() or device.counters().trained != saved.model.steps:
            raise PowerCutError(f"checkpoint {saved.sequence} is not what was saved")

    def _banks(self) -> list[Bank]:
        content, size = self._flash.read_bytes(), self._board.storage_bank_bytes
        unit = self._board.storage_unit_bytes
        return [read_bank(content[at : at + size], unit) for at in (0, size)]

    def _classify(self, before: list[Bank], content: bytes) -> None:
        after, now = self._banks(), self._flash.read_bytes()
        size = self._board.storage_bank_bytes
        erasing = torn = False
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            here = slice(index * size, (index + 1) * size)
            was, is_now = (np.frombuffer(each[here], np.uint8) for each in (content, now))
            came_back = bool((is_now & ~was).any())
            erased = new.erases is not None and new.erases != old.erases
            self.figures.erases += (new.erases or 0) - (old.erases or 0) if erased else 0
            if came_back and not erased:
                erasing = True  # bits are 1 again, without the header that ends an erase
            elif not came_back and old.erases is None and new.erases is None:
                erasing |= content[here] != now[here]
            elif set(new.torn) - (set() if erased else set(old.torn)):
                torn = True
        self.figures.in_erase += erasing
        self.figures.in_write += torn and not erasing


def cut_power(folder: Path, cuts: int, seed: int, torn: int = 0) -> Figures:
    """Cuts the power at random times.

    Args:
        folder: For firmware and flash.
        cuts: How often.
        seed: Of losses and times.
        torn: More cuts than `cuts`, up to ten times as many, until so many left a torn record.

    Raises:
        PowerCutError: After one of them the board had not what it must have.
    """
    victim = Victim(folder, seed)
    figures = victim.figures
    while figures.cuts < cuts or (figures.in_write < torn and figures.cuts < 10 * cuts):
        victim.live_and_die()
        if figures.cuts % 50 == 0:
            print(figures, flush=True)
    return figures


def _build(folder: Path) -> Firmware:
    text = (ROOT / "tests" / "c" / "fake_model.c").read_text(encoding="utf-8")
    old, new = "#define TABLE_BYTES 3000", f"#define TABLE_BYTES {TABLE_BYTES}"
    assert text.count(old) == 1
    (folder / "model").mkdir(parents=True, exist_ok=True)
    (folder / "model" / "model.c").write_text(text.replace(old, new), encoding="utf-8")
    return build_firmware(folder / "model", load_board(BOARD), folder / "firmware")


def report(figures: Figures, seed: int) -> str:
    """The figures as text for docs/reliability.md."""
    board = load_board(BOARD)
    return f"""\
`make power-cuts`, {datetime.now(UTC):%Y-%m-%d}, seed {seed}: {BOARD} was killed {figures.cuts}
times while it saved one checkpoint of {PAYLOAD_BYTES:,} bytes after the other (banks of
{board.storage_bank_bytes:,} bytes, units of {board.storage_unit_bytes}).

| | |
|---|---|
| cuts | {figures.cuts} |
| of them while a record was written: it is torn | {figures.in_write} |
| while a bank was erased | {figures.in_erase} |
| between two saves, or before the first | {figures.cuts - figures.in_write - figures.in_erase} |
| checkpoints saved | {figures.saves} |
| whole, though the answer was lost | {figures.unanswered} |
| erases | {figures.erases} |
| starts with an older, mixed or damaged checkpoint | 0 |
| best checkpoints lost | 0 |
"""


def main() -> None:
    """Runs, and writes the figures down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = cut_power(Path(folder), arguments.cuts, arguments.seed)
    text = DOCUMENT.read_text(encoding="utf-8")
    start, end = text.index(MARKS[0]) + len(MARKS[0]), text.index(MARKS[1])
    figured = f"{text[:start]}\n\n{report(figures, arguments.seed)}\n{text[end:]}"
    DOCUMENT.write_text(figured, encoding="utf-8")
    print(figures)


if __name__ == "__main__":
    main()
