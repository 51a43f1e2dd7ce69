"""The measured sample rate is right, whatever batches, stalls and losses do."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.live.device_clock import DeviceClock, time_column
from ondevice.live.rate import MOST_POINTS, Rate, RateMeter


def arrivals(
    rate_hz: float,
    seconds: float,
    batch_s: float = 0.008,
    jitter_s: float = 0.002,
    lost: Sequence[tuple[int, int]] = (),
    stall: tuple[float, float] | None = None,
    seed: int = 0,
    drift: float = 0.0,
) -> Rate:
    """Simulates a sensor behind USB: `lost` is (index, count), `stall` (begin, length) in s."""
    rng = np.random.default_rng(seed)
    count = int(rate_hz * seconds)
    index = np.arange(count)
    kept = np.ones(count, bool)
    for first, number in lost:
        kept[first : first + number] = False
    t_s = (index / rate_hz * (1 + drift * index / count))[kept]
    t_s = np.ceil(t_s / batch_s) * batch_s
    if stall is not None:
        held = (t_s >= stall[0]) & (t_s < sum(stall))
        t_s[held] = sum(stall)
    meter, last_s = RateMeter(), 0.0
    for arrival_s, samples in zip(*np.unique(t_s, return_counts=True), strict=True):
        last_s = max(last_s, arrival_s + rng.exponential(jitter_s))
        meter.add(int(samples), last_s)
    rate = meter.rate()
    assert rate is not None
    return rate


@settings(max_examples=40)
@given(
    rate_hz=st.floats(10, 1000),
    batch_s=st.sampled_from([0.001, 0.008, 0.016, 0.05]),
    seed=st.integers(0, 1000),
)
def test_the_rate_is_right_within_a_few_of_its_uncertainties(
    rate_hz: float, batch_s: float, seed: int
) -> None:
    rate = arrivals(rate_hz, 4.0, batch_s, seed=seed)
    assert rate.known
    assert abs(rate.rate_hz / rate_hz - 1) < 0.005
    assert abs(rate.rate_hz - rate_hz) < 4 * rate.uncertainty_hz + 1e-4 * rate_hz


@pytest.mark.parametrize("seed", range(5))
def test_lost_samples_are_counted_and_do_not_spoil_the_rate(seed: int) -> None:
    rate = arrivals(100, 10, lost=[(300, 20), (700, 50)], stall=(5.0, 0.4), seed=seed)
    assert rate.lost == 70
    assert abs(rate.rate_hz - 100) < 0.05
    assert rate.warnings == ("about 70 samples were lost (7.0 %)",)


@pytest.mark.parametrize("seed", range(5))
def test_a_host_that_stalls_loses_nothing(seed: int) -> None:
    rate = arrivals(100, 10, stall=(4.0, 0.7), seed=seed)
    assert (rate.lost, rate.warnings) == (0, ())


def test_a_rate_that_drifts_is_told() -> None:
    rate = arrivals(50, 20, drift=0.1)
    assert any("the rate drifts" in warning for warning in rate.warnings)
    assert rate.drift < -0.05
    assert arrivals(50, 20).drift == 0


def test_too_little_is_not_known() -> None:
    assert not arrivals(50, 0.6).known
    meter = RateMeter()
    meter.add(500, 0.0)  # a file through a pipe: all at once
    meter.add(500, 0.001)
    assert meter.rate() is None


def test_hours_take_no_more_memory_than_minutes_and_give_a_better_rate() -> None:
    meter = RateMeter()
    for index in range(50_000):
        meter.add(2, index / 250)
    assert len(meter._points) <= MOST_POINTS
    rate = meter.rate()
    assert rate is not None
    assert rate.rate_hz == pytest.approx(500, rel=1e-9)
    assert rate.samples == pytest.approx(500 * rate.duration_s)


def test_the_devices_clock_tells_each_lost_sample() -> None:
    meter = RateMeter()
    millis = [t_ms for t_ms in range(0, 4000, 20) if t_ms not in (1000, 3000, 3020)]
    meter.add(len(millis), 123.0, [t_ms / 1000 for t_ms in millis])
    rate = meter.rate()
    assert rate is not None
    assert (rate.basis, rate.lost) == ("device", 3)
    assert rate.rate_hz == pytest.approx(50, rel=1e-6)


def test_a_device_that_starts_again_begins_the_measurement_again() -> None:
    meter = RateMeter()
    meter.add(200, 1.0, [index / 100 for index in range(200)])
    meter.add(200, 2.0, [index / 50 for index in range(200)])
    rate = meter.rate()
    assert rate is not None
    assert rate.rate_hz == pytest.approx(50)


def test_the_count_of_an_arduino_goes_on_over_its_overflow() -> None:
    clock = DeviceClock("micros")
    counts = np.array([2.0**32 - 20_000, 2.0**32 - 10_000, 0, 10_000])
    assert np.diff(clock.seconds(counts)) == pytest.approx([0.01, 0.01, 0.01])
    assert time_column(("ax", "Millis", "t_s")) == 1
    assert time_column(("ax", "temperature")) is None
