"""From a stream of samples to windows as the model takes them."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError


class Windows:
    """Cuts a stream into windows, as recordings are cut.

    Args:
        length: Samples of a window.
        stride: From the beginning of one window to that of the next.
    """

    def __init__(self, length: int, stride: int) -> None:
        self.length = length
        self._stride = stride
        self._rest: NDArray[np.float32] | None = None
        self._drop = 0  # of the samples to come, where the stride is longer than a window

    def push(self, values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Takes samples [n, ...] and returns the windows [length, ...] that they complete."""
        dropped = min(self._drop, len(values))
        self._drop -= dropped
        values = values[dropped:]
        rest = values if self._rest is None else np.concatenate([self._rest, values])
        windows: deque[NDArray[np.float32]] = deque()
        while len(rest) >= self.length:
            windows.append(rest[: self.length])
            self._drop = max(self._stride - len(rest), 0)
            rest = rest[self._stride :]
        self._rest = rest
        return list(windows)


def channel_order(
    found: tuple[str, ...], wanted: tuple[str, ...], source: str
) -> tuple[list[int], str]:
    """Which of a source's channels a model takes, in its order.

    Args:
        found: Of the source.
        wanted: Of the recordings that the model was trained on; empty where they had no names.
        source: For messages.

    Returns:
        Indices into `found`, and what a person should know ("": nothing).

    Raises:
        UserError: A channel is missing.
    """
    if not wanted:
        return list(range(len(found))), ""
    if all(name in found for name in wanted):
        return [found.index(name) for name in wanted], ""
    unnamed = all(name == f"channel_{index + 1}" for index, name in enumerate(found))
    if unnamed and len(found) == len(wanted):
        return list(range(len(found))), (
            f"{source} does not name its channels; they are taken as {', '.join(wanted)}"
        )
    missing = [name for name in wanted if name not in found]
    raise UserError(
        f"{source} has channels {', '.join(found)}; the model was trained on {', '.join(wanted)}: "
        f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    )
