"""What device and link say of themselves during a run, as `Telemetry` events."""

from collections.abc import Callable
from time import monotonic

from ondevice.events import Telemetry
from ondevice.link.messages import MemoryUsage
from ondevice.training_device import TrainingDevice

READINGS = 50  # of a whole run
LONGEST_INTERVAL_STEPS = 200  # the device's counts of an operator wrap at 2**32


def telemetry_interval(total_steps: int) -> int:
    """Returns the steps between two readings."""
    return max(1, min(total_steps // READINGS, LONGEST_INTERVAL_STEPS))


class TelemetryReader:
    """Reads telemetry; adds up the device's operator counts, which are modulo 2**32.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._begun_s = clock()
        self._sums: list[int] = []
        self._last: list[int] = []

    def restart(self, device: TrainingDevice) -> None:
        """Counts from there on: the device is another one, or it did what is no training step."""
        self._last = list(device.profile())
        self._sums = self._sums or [0] * len(self._last)

    def add(self, device: TrainingDevice) -> None:
        """Adds what the operators took since the last time."""
        now = list(device.profile())
        for index, (count, last) in enumerate(zip(now, self._last, strict=True)):
            self._sums[index] += (count - last) % 2**32
        self._last = now

    def read(self, device: TrainingDevice, step: int, memory: MemoryUsage) -> Telemetry:
        """Asks the device.

        Args:
            device: In use.
            step: Steps done.
            memory: The most that was measured so far.
        """
        self.add(device)
        counters, link = device.counters(), device.link_statistics
        return Telemetry(
            step=step,
            saturated=counters.saturated,
            zeros=counters.zeros,
            arena_high_water_bytes=memory.arena_high_water_bytes,
            stack_high_water_bytes=memory.stack_high_water_bytes,
            op_counts=tuple(self._sums),
            requests=link.requests,
            retries=link.retries,
            corrupt_frames=link.corrupt_frames,
            bytes_out=link.bytes_out,
            bytes_in=link.bytes_in,
            elapsed_s=round(self._clock() - self._begun_s, 3),
        )
