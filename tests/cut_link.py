"""A running board whose link breaks at a chosen byte, and a training run on it."""

from pathlib import Path
from typing import Any

import numpy as np

from ondevice.data import Dataset
from ondevice.errors import LinkError
from ondevice.link.device import Device
from ondevice.link.timing import Timing
from ondevice.link.transport import ProcessTransport, Transport
from toy_training import toy_manifest

FAST = Timing(retry_s=0.05, reply_s=20.0, command_s=20.0, connect_s=20.0, bye_s=0.2)
SAMPLES = 5


def fake_manifest() -> dict[str, Any]:
    """What tests/c/fake_model.c would be the model of: it accumulates two samples."""
    manifest = toy_manifest()
    shape = [1, 1, 1, 150]
    manifest["input"].update(shape=shape, memory_shape=shape, source_shape=[1, 150], bytes=600)
    manifest["optimizer"] = {"name": "sgd", "momentum": 0.0, "accumulation_steps": 2}
    manifest["output"] = {"count": 3}
    manifest["parameters"] = [
        {"index": 0, "name": "fc.weight", "shape": [4], "dtype": "int32", "bytes": 16},
        {"index": 1, "name": "fc.table", "shape": [3000], "dtype": "uint8", "bytes": 3000},
    ]
    return manifest


def fake_data() -> Dataset:
    x = np.random.default_rng(7).normal(size=(SAMPLES + 1, 150)).astype(np.float32)
    y = np.arange(SAMPLES + 1) % 2
    return Dataset(x[:SAMPLES], y[:SAMPLES], x[SAMPLES:], y[SAMPLES:])


class CutTransport:
    """Breaks off after so many more bytes in one direction; the process behind it runs on.

    Attributes:
        bytes_out: Passed on since the last `count`.
        bytes_in: Likewise.
    """

    def __init__(self, inner: Transport) -> None:
        self.name, self.bytes_per_s = inner.name, inner.bytes_per_s
        self._inner = inner
        self.left_out: int | None = None
        self.left_in: int | None = None
        self.count()

    def count(self) -> None:
        self.bytes_out = self.bytes_in = 0

    def cut_after(self, direction: str, count: int) -> None:
        if direction == "out":
            self.left_out = count
        else:
            self.left_in = count

    def write(self, data: bytes) -> None:
        if self.left_out is not None:
            passed, self.left_out = data[: self.left_out], self.left_out - len(data)
            if self.left_out < 0:
                self._inner.write(passed)
                self._fail()
        self._inner.write(data)
        self.bytes_out += len(data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        if self.left_in == 0:
            self._fail()
        at_most = max_bytes if self.left_in is None else min(max_bytes, self.left_in)
        data = self._inner.read(at_most, timeout_s)
        self.bytes_in += len(data)
        if self.left_in is not None:
            self.left_in -= len(data)
        return data

    def _fail(self) -> None:
        self.left_out, self.left_in = -1, 0  # and stays so
        raise LinkError("unplugged")

    def close(self) -> None:
        pass


class Bench:
    """Links to one board, which runs on while they break; or is started again each time.

    Args:
        program: tests/c/fake_device.
        restarts: A broken link also restarts the board.
    """

    def __init__(self, program: Path, restarts: bool = False) -> None:
        self._program, self._restarts = program, restarts
        self._inner = self._start()
        self.link = CutTransport(self._inner)
        self.device = Device(self.link, timing=FAST)
        self.links = 1

    def _start(self) -> ProcessTransport:
        return ProcessTransport([str(self._program)])

    def reopen(self) -> Device:
        self.device.abandon()
        if self._restarts:
            self._inner.close()
            self._inner = self._start()
        self.links += 1
        self.link = CutTransport(self._inner)
        self.device = Device(self.link, timing=FAST)
        return self.device

    def close(self) -> None:
        self._inner.close()
