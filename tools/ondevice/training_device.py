"""The part of a device that training uses, and whether it runs the right model."""

from collections.abc import Sequence
from typing import Any, Protocol

from ondevice.errors import UserError
from ondevice.link.channel import LinkStatistics
from ondevice.link.flash_checkpoint import FlashCheckpoint, Which
from ondevice.link.messages import CounterKind, Counters, DeviceInfo, MemoryUsage, StepResult
from ondevice.schedule import Schedule

# Wall time of a simulator or of the host says nothing of the microcontroller.
_COUNTER_UNITS = {CounterKind.INSTRUCTIONS: "instructions", CounterKind.CYCLES: "cycles"}


class WrongFirmwareError(UserError):
    """The device runs another model than the one to be trained."""


class TrainingDevice(Protocol):
    """The part of a device that the loop uses; `ondevice.link.device.Device` is one."""

    @property
    def info(self) -> DeviceInfo:
        """What the board says of itself and its model."""

    @property
    def link_statistics(self) -> LinkStatistics:
        """What the link has been through since it was opened."""

    def write_input(self, data: bytes) -> None:
        """Put one packed sample into the model's input."""

    def write_label(self, data: bytes) -> None:
        """Put one packed label into the model's label."""

    def reset_model(self) -> None:
        """Put every parameter and all state back to their values in flash; ends the run."""

    def set_schedule(self, schedule: Schedule, done_steps: int = 0) -> None:
        """Have the device compute the learning rate of each update."""

    def train(self) -> StepResult:
        """One forward, backward and update (or accumulation)."""

    def evaluate(self) -> StepResult:
        """Forward and loss only."""

    def apply(self) -> object:
        """Update from the accumulated gradient."""

    def read_parameters(self) -> Sequence[bytes]:
        """All trained parameters and optimiser state, in the manifest's order."""

    def read_scales(self) -> bytes:
        """The gradient scales; empty where there are none."""

    def write_parameters(self, parameters: Sequence[bytes], scales: bytes | None = None) -> None:
        """Replace all parameters, and the gradient scales where given; ends the device's run."""

    def write_noise_key(self, index: int, key: bytes) -> None:
        """Give a model with noise (DP-SGD) the key of it."""

    def counters(self) -> Counters:
        """The run, its position, and sums since `reset_counters`."""

    def reset_counters(self, run: int = 0) -> None:
        """Set all counters to 0, and begin a run."""

    def set_counters(self, counters: Counters) -> None:
        """Set the counters to those of a run that goes on."""

    def save_checkpoint(self, loss: float | None = None) -> int:
        """Save all state in the board's flash, where `info.keeps_checkpoints`."""

    def load_checkpoint(self, which: Which = "newest") -> FlashCheckpoint:
        """Put a saved state back; ends the schedule."""

    def checkpoints(self) -> Sequence[FlashCheckpoint]:
        """What is saved."""

    def profile(self) -> Sequence[int]:
        """Ticks of each operator since the counters were reset, modulo 2**32."""

    def paint(self, pattern: int) -> None:
        """Fill the arena and the unused stack with a pattern."""

    def memory(self) -> MemoryUsage:
        """Measure the memory touched since `paint`."""


def check_firmware(device: TrainingDevice, manifest: dict[str, Any]) -> None:
    """Checks that the device runs the model of the manifest.

    Raises:
        WrongFirmwareError: It runs another one; the message says which command flashes it.
    """
    if device.info.model_id != manifest["model_id"]:
        raise WrongFirmwareError(
            f"the {device.info.board} board runs model {device.info.model!r} "
            f"({device.info.model_id}), but these settings give {manifest['name']!r} "
            f"({manifest['model_id']}); put it on the board with --flash, or with "
            "`ondevice flash` and the same options"
        )


def counter_unit(info: DeviceInfo) -> str:
    """Returns the unit of a step's count: "instructions", "cycles" or ""."""
    return _COUNTER_UNITS.get(info.counter, "")
