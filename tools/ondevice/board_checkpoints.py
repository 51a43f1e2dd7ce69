"""What a run keeps in the flash of its board, and what it gets back from there."""

import math
from collections.abc import Callable

from ondevice.errors import DeviceError
from ondevice.events import BoardCheckpoint
from ondevice.link.messages import Counters
from ondevice.training_device import TrainingDevice


class BoardCheckpoints:
    """Checkpoints of one run, where its board keeps any.

    Args:
        run: Its id.
        on_event: Told of each.
    """

    def __init__(self, run: int, on_event: Callable[[BoardCheckpoint], None]) -> None:
        self._run = run
        self._on_event = on_event
        self._refused = False

    def save(self, device: TrainingDevice, step: int, mean_loss: float) -> None:
        """Has the board save its state; a board whose flash fails trains on without.

        Args:
            device: Of this run.
            step: Steps done.
            mean_loss: Of the last samples; the store keeps the best by it. Infinite: unknown.
        """
        if self._refused or not device.info.keeps_checkpoints:
            return
        loss = mean_loss if math.isfinite(mean_loss) else None
        try:
            device.save_checkpoint(loss)
        except DeviceError as error:
            self._refused = True
            self._on_event(BoardCheckpoint(step, loss, str(error)))
        else:
            self._on_event(BoardCheckpoint(step, loss))

    def load_best(
        self, device: TrainingDevice, trusts: Callable[[int, float], bool]
    ) -> Counters | None:
        """Has the board go back to the run's best checkpoint.

        Args:
            device: Any state.
            trusts: Whether the state of a step, with its mean loss, may be gone back to.

        Returns:
            The position; None where the board keeps none of this run.
        """
        if not device.info.keeps_checkpoints:
            return None
        found = [
            (checkpoint.loss, checkpoint.sequence)
            for checkpoint in device.checkpoints()
            if checkpoint.run == self._run
            and checkpoint.loss is not None
            and trusts(checkpoint.trained, checkpoint.loss)
        ]
        if not found:
            return None
        device.load_checkpoint(min(found)[1])
        return device.counters()
