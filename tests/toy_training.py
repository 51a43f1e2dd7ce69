"""A device in memory with a deterministic toy model, its manifest, and data that it can learn."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.data import Dataset
from ondevice.errors import LinkError
from ondevice.link.channel import LinkStatistics
from ondevice.link.flash_checkpoint import FlashCheckpoint, Which
from ondevice.link.messages import CounterKind, Counters, DeviceInfo, MemoryUsage, StepResult
from ondevice.schedule import Schedule, learning_rate_at

MODEL_ID = "000102030405060708090a0b0c0d0e0f"
FEATURES = 3
CLASSES = 2


def toy_manifest(**changes: Any) -> dict[str, Any]:
    """A float32 linear classifier [1, 3] -> 2 without bias."""
    manifest: dict[str, Any] = {
        "format": 2,
        "abi": 5,
        "model_id": MODEL_ID,
        "name": "toy",
        "dtype": "float32",
        "scheme": {"name": "full"},
        "optimizer": {"name": "sgd", "momentum": 0.0, "accumulation_steps": 1},
        "loss": "cross_entropy",
        "input": {
            "shape": [1, 1, 1, FEATURES],
            "memory_shape": [1, 1, 1, FEATURES],
            "dtype": "float32",
            "bytes": 4 * FEATURES,
            "source_shape": [1, FEATURES],
            "axes": [0, None, None, 1],
        },
        "label": {"kind": "class", "count": CLASSES, "dtype": "uint32", "bytes": 4},
        "output": {"count": CLASSES},
        "parameters": [
            {
                "index": 0,
                "name": "fc.weight",
                "shape": [CLASSES, FEATURES],
                "dtype": "float32",
                "bytes": 4 * CLASSES * FEATURES,
                "format": "float32",
                "scale": [],
            }
        ],
        "ops": [{"index": 0, "name": "forward/fc", "op": "linear", "phase": "forward", "macs": 6}],
        "scales": [],
        "memory": {
            "arena_bytes": 64,
            "lower_bound_bytes": 64,
            "parameter_bytes": 24,
            "state_bytes": 0,
            "scale_bytes": 0,
            "ram_bytes": 104,
            "const_bytes": 24,
            "tensors": [{"name": "x", "offset": 0, "bytes": 12, "first_step": 0, "last_step": 1}],
        },
    }
    return {**manifest, **changes}


def toy_arrays(seed: int = 0, samples: int = 20) -> dict[str, NDArray[Any]]:
    """Two classes that a line through the origin separates."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(2 * samples, FEATURES)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    return {"x": x[:samples], "y": y[:samples], "x_test": x[samples:], "y_test": y[samples:]}


def toy_dataset(samples: int = 20) -> Dataset:
    arrays = toy_arrays(samples=samples)
    return Dataset(arrays["x"], arrays["y"], arrays["x_test"], arrays["y_test"])


def write_toy_data(path: Path, **changes: NDArray[Any]) -> Path:
    np.savez(path, **{**toy_arrays(), **changes})  # type: ignore[arg-type]
    return path


class ToyDevice:
    """Softmax regression in float32, started from zeros.

    Attributes:
        trained_on: The samples' bytes in the order of training.
    """

    def __init__(
        self,
        counter: CounterKind = CounterKind.INSTRUCTIONS,
        model_id: str = MODEL_ID,
        unplug_at_step: int | None = None,
        accumulation_steps: int = 1,
    ) -> None:
        self.info = DeviceInfo(
            protocol=1,
            abi=5,
            model_id=model_id,
            model="toy",
            board="toyboard",
            counter=counter,
            counter_resolution=1,
            clock_hz=0,
            parameters_valid=True,
            allow_export=True,
            authenticated=False,
            image_damaged=False,
            payload_bytes_max=1024,
            receive_bytes=1024,
            arena_bytes=64,
            input_bytes=4 * FEATURES,
            label_bytes=4,
            output_count=CLASSES,
            parameter_count=1,
            scale_count=0,
            profile_count=0,
            accumulation_steps=accumulation_steps,
            stack_bytes=2048,
            session_bytes=2000,
        )
        self.trained_on: list[bytes] = []
        self.applied_at: list[int] = []
        self.noise_keys: list[tuple[int, bytes]] = []
        self.rates: list[float] = []
        self.closed = False
        self._unplug_at_step = unplug_at_step
        self._accumulation_steps = accumulation_steps
        self._patterns: list[int] = []
        self._evaluated = 0
        self.reset_model()

    def reset_model(self) -> None:
        self.weights = np.zeros((CLASSES, FEATURES), dtype=np.float32)
        self.run = self.trained = self.updates = 0

    def write_noise_key(self, index: int, key: bytes) -> None:
        self.noise_keys.append((index, key))

    def write_input(self, data: bytes) -> None:
        assert len(data) == self.info.input_bytes
        self._input = data

    def write_label(self, data: bytes) -> None:
        self._label = struct.unpack("<I", data)[0]

    def evaluate(self) -> StepResult:
        self._evaluated += 1
        return self._forward()[0]

    def set_schedule(self, schedule: Schedule, done_steps: int = 0) -> None:
        self._schedule = schedule
        self._scheduled = done_steps

    def train(self) -> StepResult:
        if len(self.trained_on) + 1 == self._unplug_at_step:
            raise LinkError("/dev/ttyACM0 went away in the middle: the board was unplugged")
        result, error, x = self._forward()
        self.trained_on.append(self._input)
        rate = learning_rate_at(self._schedule, self._scheduled)
        self.weights -= np.float32(rate) * np.outer(error, x)
        self.rates.append(rate)
        self.trained += 1
        self._count_update(self._accumulation_steps == 1)
        return result

    def apply(self) -> int:
        self.applied_at.append(len(self.trained_on))
        self._count_update(True)
        return 1

    def _count_update(self, updated: bool) -> None:
        self.updates += updated
        self._scheduled += updated

    def read_parameters(self) -> list[bytes]:
        return [self.weights.tobytes()]

    def write_parameters(self, parameters: Sequence[bytes], scales: bytes | None = None) -> None:
        self.run = 0
        self.weights = np.frombuffer(parameters[0], "<f4").reshape(CLASSES, FEATURES).copy()

    def read_scales(self) -> bytes:
        return b""

    def counters(self) -> Counters:
        return Counters(self.trained, self._evaluated, 0, 0.0, 5, 7, self.run, self.updates)

    def reset_counters(self, run: int = 0) -> None:
        self.run, self.trained, self.updates, self._evaluated = run, 0, 0, 0

    def set_counters(self, counters: Counters) -> None:
        self.run, self.trained, self.updates = counters.run, counters.trained, counters.updates

    def save_checkpoint(self, loss: float | None = None) -> int:
        raise NotImplementedError

    def load_checkpoint(self, which: Which = "newest") -> FlashCheckpoint:
        raise NotImplementedError

    def checkpoints(self) -> list[FlashCheckpoint]:
        return []

    def profile(self) -> list[int]:
        return []

    @property
    def link_statistics(self) -> LinkStatistics:
        return LinkStatistics()

    def paint(self, pattern: int) -> None:
        self._patterns.append(pattern)

    def memory(self) -> MemoryUsage:
        """The last byte written has the value of the first pattern: only the second shows it."""
        return MemoryUsage(63 if self._patterns[-1] == 0xA5 else 64, 900)

    def __enter__(self) -> "ToyDevice":
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed = True

    def _forward(self) -> tuple[StepResult, NDArray[np.float32], NDArray[np.float32]]:
        x = np.frombuffer(self._input, "<f4")
        logits = self.weights @ x
        exponentials = np.exp(logits - logits.max())
        probabilities = exponentials / exponentials.sum()
        error = probabilities.copy()
        error[self._label] -= 1
        predicted = int(np.argmax(logits))
        loss = float(-np.log(probabilities[self._label]))
        return StepResult(loss, predicted, predicted == self._label, 1000), error, x
