"""How many samples a second a sensor gives: measured, with its uncertainty.

Samples arrive in batches (USB, the operating system), so the time between two arrivals says little.
The line through all arrivals over the index of their last sample does: its slope is the period.
Samples that were lost shift all later arrivals by a step; such steps are found, counted and taken
out before the line is laid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 4096  # then every second one is kept: memory is bounded however long it takes
FEWEST_POINTS = 10
FEWEST_SECONDS = 1.0
LARGEST_UNCERTAINTY = 0.02  # of the rate; above, it is not known yet
DRIFT = 0.02  # from the first half to the second

_BIN_S = 0.02  # of arrivals in such a time, the least late one counts
_LONGEST_POLL_S = 0.02  # of a bus or driver: FTDI's latency timer has 16 ms
_SIDE = 8  # bins on either side of a step
_MOST_GAPS = 50
_HUBER = 1.345  # residuals beyond so many standard deviations count less


@dataclass(frozen=True)
class Rate:
    """A measured rate.

    Attributes:
        rate_hz: Samples a second.
        uncertainty_hz: Half the width of an interval of about 95 %.
        duration_s: It was measured over.
        samples: That arrived in that time.
        lost: That evidently did not arrive.
        drift: Relative change from the first half to the second; 0 where it is not significant.
        basis: "arrival" times, or the "device" clock.
    """

    rate_hz: float
    uncertainty_hz: float
    duration_s: float
    samples: int
    lost: int
    drift: float
    basis: str

    @property
    def known(self) -> bool:
        """Whether it is good enough to be written down."""
        return (
            self.duration_s >= FEWEST_SECONDS
            and self.uncertainty_hz <= LARGEST_UNCERTAINTY * self.rate_hz
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with it, in words."""
        said = []
        if self.lost:
            share = 100 * self.lost / (self.samples + self.lost)
            said.append(f"about {self.lost:,} samples were lost ({share:.1f} %)")
        if abs(self.drift) > DRIFT:
            said.append(f"the rate drifts: {100 * self.drift:+.1f} % from first half to second")
        return tuple(said)

    def __str__(self) -> str:
        """In words, e.g. "49.98 ± 0.03 Hz"."""
        digits = max(0, 1 - int(np.floor(np.log10(max(self.uncertainty_hz, 1e-4)))))
        digits = min(digits, 4)
        return f"{self.rate_hz:.{digits}f} ± {self.uncertainty_hz:.{digits}f} Hz"


class RateMeter:
    """Collects when samples came, and lays the line.

    Add either arrival times or times of the device's clock, not both.
    """

    def __init__(self) -> None:
        self._basis = "arrival"
        self._begin()

    def _begin(self) -> None:
        self._points: list[tuple[float, float]] = []  # index of the last sample, time
        self._keep_every = 1
        self._offered = 0
        self._samples = 0

    def add(self, samples: int, t_s: float, device_t_s: Sequence[float] | None = None) -> None:
        """Notes samples that came together.

        Args:
            samples: How many, at least 1.
            t_s: When the last of them had arrived.
            device_t_s: [samples] times of the device's clock, where it sends them.
        """
        if device_t_s is None:
            self._samples += samples
            self._point(t_s)
            return
        self._basis = "device"
        for device_s in device_t_s:
            self._samples += 1
            self._point(float(device_s))

    def _point(self, t_s: float) -> None:
        if self._points and t_s < self._points[-1][1]:
            self._begin()  # the device has started again
            self._samples = 1
        self._offered += 1
        if self._offered % self._keep_every:
            return
        self._points.append((float(self._samples), t_s))
        if len(self._points) >= MOST_POINTS:
            self._points = self._points[1::2]
            self._keep_every *= 2

    def rate(self) -> Rate | None:
        """Returns what is known by now; None: too little."""
        if len(self._points) < FEWEST_POINTS:
            return None
        index, t_s = np.array(self._points, np.float64).T
        if t_s[-1] <= t_s[0] or index[-1] <= index[0]:
            return None
        grain_s, least_step_s = self._grain(t_s)
        index, lost, gaps = _without_gaps(index, t_s, least_step_s)
        period, error = _line(index, t_s)
        if period <= 0:
            return None
        rate = 1 / period
        # How many were lost is known to about half a sample a gap, if arrivals tell it.
        of_gaps = gaps**0.5 / 2 / (index[-1] - index[0]) if self._basis == "arrival" else 0.0
        duration_s = float(t_s[-1] - t_s[0])
        # Arrivals that creep through the polls of a bus look like another rate for a while.
        of_grain = 0.5 * grain_s / duration_s
        return Rate(
            rate_hz=rate,
            uncertainty_hz=float(np.hypot(2 * error / period, of_gaps) + of_grain) * rate,
            duration_s=duration_s,
            samples=int(self._points[-1][0] - self._points[0][0]),
            lost=lost,
            drift=_drift(index, t_s, 4 * of_grain),
            basis=self._basis,
        )

    def _grain(self, t_s: NDArray[np.float64]) -> tuple[float, float]:
        """How coarse times are, and the least step that lost samples must make to be believed."""
        if self._basis == "device":
            whole_ms = bool(np.all(np.abs(t_s * 1e3 - np.rint(t_s * 1e3)) < 1e-6))
            return (1e-3 if whole_ms else 1e-6), 0.0
        apart_s = float(np.median(np.diff(t_s))) / self._keep_every
        return min(apart_s, _LONGEST_POLL_S), 1.5 * apart_s


def _line(index: NDArray[np.float64], t_s: NDArray[np.float64]) -> tuple[float, float]:
    """Slope of t over index and its standard error, robust against single late arrivals."""
    x, y = index - index.mean(), t_s - t_s.mean()
    weights = np.ones(len(x))
    slope, residual = 0.0, y
    for _ in range(5):
        total = weights.sum()
        x0, y0 = (weights * x).sum() / total, (weights * y).sum() / total
        slope = float((weights * (x - x0) * (y - y0)).sum() / (weights * (x - x0) ** 2).sum())
        residual = y - y0 - slope * (x - x0)
        scale = _spread(residual)
        if scale <= 0:
            break
        weights = np.minimum(1, _HUBER * scale / np.maximum(np.abs(residual), 1e-300))
    variance = float((weights * residual**2).sum() / max(weights.sum() - 2, 1))
    # Neighbouring delays resemble each other, so there are fewer independent points than points.
    alike = np.corrcoef(residual[:-1], residual[1:])[0, 1] if residual.std() > 0 else 0.0
    alike = float(np.clip(np.nan_to_num(alike), 0, 0.99))
    spread = float((weights * x**2).sum())
    return slope, float(np.sqrt(variance / spread * (1 + alike) / (1 - alike)))


def _drift(index: NDArray[np.float64], t_s: NDArray[np.float64], least: float) -> float:
    half = len(index) // 2
    if half < FEWEST_POINTS:
        return 0.0
    (first, error1), (second, error2) = (
        _line(index[part], t_s[part]) for part in (slice(0, half), slice(half, None))
    )
    change = first / second - 1 if second > 0 else 0.0  # of the rate
    certain = abs(change) > 3 * float(np.hypot(error1, error2)) / max(first, 1e-300) + least
    return float(change) if certain else 0.0


def _without_gaps(
    index: NDArray[np.float64], t_s: NDArray[np.float64], least_step_s: float
) -> tuple[NDArray[np.float64], int, int]:
    """Counts lost samples into the index; returns it, how many they were, and in how many gaps."""
    starts = np.flatnonzero(np.diff(np.floor((t_s - t_s[0]) / _BIN_S), prepend=-1.0))
    if len(starts) < 4 * _SIDE:
        return index, 0, 0
    index, lost, gaps = index.copy(), 0, 0
    blocks = np.linspace(0, len(index) - 1, min(len(index) // _SIDE, 64) + 1).astype(int)
    period = float(np.median(np.diff(t_s[blocks]) / np.diff(index[blocks])))
    for _ in range(_MOST_GAPS):
        delay = t_s - period * index
        steps = _steps(np.minimum.reduceat(delay, starts))
        at = int(np.argmax(steps))
        missing = round(float(steps[at]) / period)
        noise = _spread(steps)
        if missing < 1 or steps[at] < 8 * noise or steps[at] < max(0.7 * period, least_step_s):
            break
        first = int(starts[at])
        last = int(starts[at + 2 * _SIDE]) if at + 2 * _SIDE < len(starts) else len(index)
        index[first + _place(delay[first:last], float(steps[at])) :] += missing
        lost, gaps = lost + missing, gaps + 1
    return index, lost, gaps


def _place(delay: NDArray[np.float64], step: float) -> int:
    """The first sample behind a step: those before are near its foot, the others near its top.

    Args:
        delay: [n], with the step about in the middle.
        step: Its height.
    """
    low = float(np.median(delay[: len(delay) // 4 + 1]))
    far_before = np.concatenate([[0.0], np.cumsum(np.abs(delay - low))])
    far_behind = np.cumsum(np.abs(delay - low - step)[::-1])[::-1]
    return int(np.argmin(far_before + np.concatenate([far_behind, [0.0]])))


def _steps(delay: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much later the _SIDE bins from each one on are than the _SIDE before, by medians.

    The median passes over a stall of the host: late for a moment, then no more. All of it is
    relative to the usual step, since the period is not known exactly yet.
    """
    windows = np.lib.stride_tricks.sliding_window_view(delay, _SIDE)
    medians = np.median(windows, axis=1)
    steps = medians[_SIDE:] - medians[:-_SIDE]
    return np.asarray(steps - np.median(steps))


def _spread(values: NDArray[np.float64]) -> float:
    """Standard deviation, as the median deviation tells it."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
