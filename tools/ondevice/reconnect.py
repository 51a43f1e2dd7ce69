"""Getting a device back whose link failed."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ondevice.errors import LinkError
from ondevice.events import LinkLost
from ondevice.training_device import TrainingDevice

DEFAULT_LIMIT_S = 60.0
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 5.0
_ASK_S = 0.1  # between two looks at `should_stop`
_FRUITLESS_MAX = 5


@dataclass(frozen=True)
class Recovery:
    """What a run needs to go on after its link failed.

    Attributes:
        reopen: Lets go of the old device and returns one with a new session: the port opened again,
            or the simulated board started again.
        begin: Puts a device into the state that the run starts from.
        limit_s: How long to try; 0: not at all.
    """

    reopen: Callable[[], TrainingDevice]
    begin: Callable[[TrainingDevice], None]
    limit_s: float = DEFAULT_LIMIT_S


class Reconnector:
    """Opens the device again, for a bounded time and a bounded number of times in vain.

    Args:
        recovery: None: a lost link ends the run.
        on_event: Told of each attempt.
        should_stop: Asked while waiting; the error is raised then.
    """

    def __init__(
        self,
        recovery: Recovery | None,
        on_event: Callable[[LinkLost], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._recovery = recovery
        self._on_event = on_event
        self._should_stop = should_stop
        self._furthest_step = -1
        self._fruitless = 0
        self.count = 0

    def reopen(self, error: LinkError, step: int) -> TrainingDevice:
        """Returns a device that answers.

        Args:
            error: How the link failed.
            step: Steps done, as far as is known.

        Raises:
            LinkError: `error` where links are not opened again; or none could be opened; or it
                failed too often without a step in between.
        """
        recovery = self._recovery
        if recovery is None or recovery.limit_s == 0.0 or self._should_stop():
            raise error
        self._fruitless = self._fruitless + 1 if step <= self._furthest_step else 1
        self._furthest_step = max(self._furthest_step, step)
        if self._fruitless > _FRUITLESS_MAX:
            raise LinkError(
                f"the link failed {self._fruitless} times at step {step} without a step done in "
                f"between; the last time: {error}"
            ) from error
        give_up_at = time.monotonic() + recovery.limit_s
        wait_s, attempt = _FIRST_WAIT_S, 1
        while True:
            self._on_event(LinkLost(step, attempt, wait_s, str(error)))
            self._wait(wait_s, error)
            try:
                device = recovery.reopen()
            except LinkError as failed:
                error = failed
                if time.monotonic() + wait_s > give_up_at:
                    raise LinkError(
                        f"the link could not be opened again within {recovery.limit_s:g} s "
                        f"({attempt} attempts); the last time: {error}"
                    ) from error
            else:
                self.count += 1
                return device
            wait_s, attempt = min(2 * wait_s, _LONGEST_WAIT_S), attempt + 1

    def _wait(self, wait_s: float, error: LinkError) -> None:
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            if self._should_stop():
                raise error
            time.sleep(min(left, _ASK_S))
