"""The arena: no two live tensors share a byte, and the plan is what the code really touches."""

from __future__ import annotations

import ctypes
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice_compiler.lifetimes import Interval, Overlap, lower_bound
from ondevice_compiler.plan import plan
from small_networks import NETWORKS, Compilation, compiled, labels


@st.composite
def interval_lists(draw: st.DrawFn) -> list[Interval]:
    count = draw(st.integers(0, 20))
    intervals = []
    for index in range(count):
        first = draw(st.integers(-1, 15))
        last = draw(st.integers(first, 20))
        size_bytes = 4 * draw(st.integers(1, 300))
        intervals.append(Interval(f"t{index}", size_bytes, first, last))
    return intervals


def needed_bytes(intervals: list[Interval]) -> int:
    """Most bytes live at any step, counted step by step."""
    return max(
        sum(i.size_bytes for i in intervals if i.first <= step <= i.last) for step in range(-1, 21)
    )


@settings(max_examples=150, deadline=None)
@given(interval_lists())
def test_no_two_live_tensors_share_a_byte(intervals: list[Interval]) -> None:
    planned = plan(intervals)
    assert set(planned.placements) == {interval.name for interval in intervals}
    assert lower_bound(intervals) == planned.lower_bound_bytes == needed_bytes(intervals)
    assert planned.arena_bytes >= planned.lower_bound_bytes
    owners: dict[tuple[int, int], str] = {}
    for placement in planned.placements.values():
        interval, offset = placement.interval, placement.offset
        assert offset >= 0
        assert offset % 4 == 0
        assert offset + interval.size_bytes <= planned.arena_bytes
        for step in range(interval.first, interval.last + 1):
            for word in range(offset, offset + interval.size_bytes, 4):
                other = owners.setdefault((step, word), interval.name)
                assert other == interval.name


@st.composite
def overlapping_lists(draw: st.DrawFn) -> tuple[list[Interval], list[Overlap]]:
    """Intervals, and outputs that may be written over inputs which end where they begin."""
    intervals, overlaps = draw(interval_lists()), []
    for output in intervals:
        for source in intervals:
            if source.last == output.first and source.first < source.last < output.last:
                distance = draw(st.integers(-source.size_bytes, output.size_bytes))
                overlaps.append(Overlap(output.name, source.name, distance))
    return intervals, overlaps


@settings(max_examples=40, deadline=None)
@given(overlapping_lists())
def test_only_an_output_far_enough_before_an_input_shares_bytes_with_it(
    given_lists: tuple[list[Interval], list[Overlap]],
) -> None:
    intervals, overlaps = given_lists
    planned = plan(intervals, overlaps)
    assert planned.lower_bound_bytes <= planned.arena_bytes <= plan(intervals).arena_bytes
    distances = {(o.output, o.source): o.distance_bytes for o in overlaps}
    for a in planned.placements.values():
        assert 0 <= a.offset <= planned.arena_bytes - a.interval.size_bytes
        for b in planned.placements.values():
            names = a.interval.name, b.interval.name
            if a is b or not a.interval.overlaps(b.interval) or not planned.share(*names):
                continue
            assert names in distances or names[::-1] in distances
            if names in distances:
                assert a.offset + distances[names] <= b.offset


@settings(max_examples=40, deadline=None)
@given(interval_lists(), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_the_intervals(
    intervals: list[Interval], generator: random.Random
) -> None:
    shuffled = list(intervals)
    generator.shuffle(shuffled)
    assert plan(intervals) == plan(shuffled)


def touched_bytes(name: str, made: Compilation) -> int:
    """Highest arena byte that a training step writes, plus one: seen under three paints."""
    native = made.native()
    x, y = NETWORKS[name].samples(1)[0], int(labels(1)[0])
    touched = np.zeros(native.model.arena_bytes, bool)
    for paint in (0x00, 0xFF, 0xA5):
        native.model.reset()
        ctypes.memset(native.model.arena, paint, native.model.arena_bytes)
        native.train(x, y, 0.01)
        touched |= native.arena() != paint
    return int(np.flatnonzero(touched).max()) + 1


@pytest.mark.parametrize(
    ("name", "scheme", "dtype"),
    [
        *((name, "full", dtype) for name in NETWORKS for dtype in ("int8", "float32")),
        ("wearer", "bias", "int8"),
        ("residual", "bias", "int8"),
    ],
)
def test_the_planned_arena_is_near_its_bound_and_is_the_measured_one(
    name: str, scheme: str, dtype: str
) -> None:
    made = compiled(name, scheme=scheme, dtype=dtype)
    memory = made.model.manifest["memory"]
    few_pixels = 32  # The bound does not know that a kernel writes a few pixels at once.
    assert memory["arena_bytes"] <= 1.05 * memory["lower_bound_bytes"] + few_pixels
    used = touched_bytes(name, made)
    assert memory["arena_bytes"] - 3 <= used <= memory["arena_bytes"]


@pytest.mark.parametrize("name", ["wearer", "residual"])
def test_a_step_reads_nothing_that_it_has_not_written(name: str) -> None:
    native = compiled(name).native()
    x, results = NETWORKS[name].samples(2), []
    for paint in (0x00, 0x7F):
        native.model.reset()
        for sample, y in zip(x, labels(2), strict=True):
            ctypes.memset(native.model.arena, paint, native.model.arena_bytes)
            loss = native.train(sample, int(y), 0.05)
        results.append((loss, native.scales(), native.parameters()))
    assert results[0][:2] == results[1][:2]
    for key, value in results[0][2].items():
        np.testing.assert_array_equal(value, results[1][2][key])
