"""Sound at another sample rate."""

from math import gcd

import numpy as np
from numpy.typing import NDArray

ZERO_CROSSINGS = 16  # of the sinc on each side, at the lower of the two rates
KAISER_BETA = 8.6  # stops the band beyond by some 80 dB
LARGEST_FACTOR = 2000


def resample(values: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Resamples by a windowed sinc, evaluated only where it is needed (a polyphase filter).

    Args:
        values: [time].
        from_hz: Their rate.
        to_hz: Wanted.

    Returns:
        float32 [ceil(time * to_hz / from_hz)].
    """
    if from_hz == to_hz or not len(values):
        return values
    common = gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    slower = max(up, down)
    half = ZERO_CROSSINGS * slower
    taps = np.arange(-half, half + 1)
    kernel = np.sinc(taps / slower) * np.kaiser(len(taps), KAISER_BETA) * (up / slower)
    places = np.arange(-(-len(values) * up // down)) * down + half  # on the finer grid
    count = -(-len(kernel) // up)
    padded = np.concatenate([kernel, np.zeros(count * up - len(kernel))])
    phase, first = places % up, places // up
    found = np.zeros(len(places))
    for tap in range(count):  # one input sample of each output after another
        index = first - tap
        inside = (index >= 0) & (index < len(values))
        found[inside] += padded[phase[inside] + tap * up] * values[index[inside]]
    return found.astype(np.float32)
