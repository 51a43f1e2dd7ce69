"""A line that does everything wrong to frames: for soaks and tests of the link."""

import random
from collections import Counter

from ondevice.errors import LinkError
from ondevice.link.transport import Transport

FAULTS = ("flip", "cut", "drop", "repeat", "replay", "swap", "garbage", "split")

KINDS = {
    "corrupted": ("flip", "cut", "garbage", "split"),
    "dropped": ("drop",),
    "duplicated": ("repeat", "replay"),
    "reordered": ("swap",),
}
"""What people call them."""


class FaultyTransport:
    """Passes frames on, and spoils some of them in each way that a line can.

    Args:
        inner: The line that works.
        rate: Share of frames that are spoilt, in either direction.
        seed: Of which, and how.
        break_every: Frames between two breaks of the link, on average; 0: it never breaks.

    Attributes:
        faults: How often each of `FAULTS` was done, in either direction.
        frames: That were sent, in either direction.
    """

    def __init__(self, inner: Transport, rate: float, seed: int, break_every: int = 0) -> None:
        self.name = inner.name
        self.bytes_per_s = inner.bytes_per_s
        self.faults: Counter[str] = Counter()
        self.frames = 0
        self.rate = rate
        self._inner = inner
        self._random = random.Random(seed)
        self._break_at = round(self._random.expovariate(1 / break_every)) if break_every else None
        self._past: dict[str, list[bytes]] = {"out": [], "in": []}
        self._held: dict[str, bytes] = {"out": b"", "in": b""}
        self._received = b""

    def write(self, data: bytes) -> None:
        self._inner.write(self._spoil(data, "out"))

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        self._received += self._inner.read(max_bytes, timeout_s)
        result = b""
        while (end := self._received.find(b"\x00", 1)) >= 0:  # a frame and both its delimiters
            frame, self._received = self._received[: end + 1], self._received[end + 1 :]
            result += self._spoil(frame, "in")
        return result

    def close(self) -> None:
        self._inner.close()

    def _spoil(self, frame: bytes, way: str) -> bytes:
        self.frames += 1
        if self._break_at is not None and self.frames > self._break_at:
            if way == "out":
                self._inner.write(frame[: self._random.randrange(len(frame) + 1)])
            raise LinkError("the line was cut")
        past = self._past[way]
        past.append(frame)
        del past[:-200]
        held, self._held[way] = self._held[way], b""
        if self._random.random() >= self.rate:
            return frame + held
        fault = self._random.choice(FAULTS)
        self.faults[fault] += 1
        if fault == "flip":
            spoilt = bytearray(frame)
            for _ in range(self._random.randint(1, 4)):
                spoilt[self._random.randrange(len(frame))] ^= 1 << self._random.randrange(8)
            frame = bytes(spoilt)
        elif fault == "cut":
            frame = frame[: self._random.randrange(len(frame))]
        elif fault == "drop":
            frame = b""
        elif fault == "repeat":
            frame = frame * self._random.randint(2, 4)
        elif fault == "replay":
            frame = frame + self._random.choice(past)
        elif fault == "swap":
            self._held[way], frame = frame, b""
        elif fault == "garbage":
            frame = self._random.randbytes(self._random.randint(1, 80)) + frame
        else:  # split: noise inside
            at = self._random.randrange(len(frame))
            frame = frame[:at] + self._random.randbytes(3) + frame[at:]
        return frame + held
