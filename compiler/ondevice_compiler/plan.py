"""Memory plan: lifetimes of the arena's tensors -> byte offsets.

Placing intervals with the least total height is NP-hard; a first-fit over several orders, improved
by moving single intervals, is within a few per cent of the lower bound for training steps, because
one or two steps dominate. Everything is deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ondevice_compiler.lifetimes import (
    ALIGNMENT_BYTES,
    Interval,
    Lifetimes,
    Overlap,
    lifetimes,
    lower_bound,
)
from ondevice_compiler.program import Program

FEWEST_ROUNDS, MOST_ROUNDS = 200, 800
WORK = 500_000  # Pairs of intervals looked at, for all rounds together.


@dataclass(frozen=True)
class Placement:
    """An interval with its place.

    Attributes:
        interval: What is placed.
        offset: First byte in the arena.
    """

    interval: Interval
    offset: int


@dataclass(frozen=True)
class Plan:
    """Where every tensor of the arena lives.

    Attributes:
        placements: By tensor name.
        arena_bytes: Height of the arena.
        lower_bound_bytes: Largest sum of live tensors over the steps, less what may be shared: no
            plan can need less.
    """

    placements: dict[str, Placement]
    arena_bytes: int
    lower_bound_bytes: int

    def share(self, first: str, second: str) -> bool:
        """Whether two tensors have bytes in common."""
        a, b = self.placements[first], self.placements[second]
        return (
            a.offset < b.offset + b.interval.size_bytes
            and b.offset < a.offset + a.interval.size_bytes
        )


def plan_program(program: Program, in_place: bool = True) -> Plan:
    """Plans the arena of a program's forward, backward and update steps."""
    found: Lifetimes = lifetimes(program, in_place)
    return plan(found.intervals, found.overlaps)


def plan(intervals: Sequence[Interval], overlaps: Sequence[Overlap] = ()) -> Plan:
    """Places intervals so that none overlaps in time and bytes, except as `overlaps` allows.

    Args:
        intervals: Any order; names unique.
        overlaps: Pairs that may share bytes.

    Returns:
        The best plan found.
    """
    bound = lower_bound(intervals, overlaps)
    conflicts = _Conflicts(intervals, overlaps)
    found = _improved(conflicts, intervals, bound)
    if conflicts.height(found) > bound and overlaps:
        mirrored = conflicts.mirrored()
        other = _improved(mirrored, intervals, bound)
        if mirrored.height(other) < conflicts.height(found):
            top = mirrored.height(other)
            found = {n: top - offset - conflicts.sizes[n] for n, offset in other.items()}
    placements = {i.name: Placement(i, found[i.name]) for i in sorted(intervals, key=_first)}
    return Plan(placements, conflicts.height(found), bound)


def _first(interval: Interval) -> tuple[int, str]:
    return interval.first, interval.name


def _improved(conflicts: _Conflicts, intervals: Sequence[Interval], bound: int) -> dict[str, int]:
    """First fit over several orders, the best improved by moving intervals to the front."""
    orders = [
        sorted(intervals, key=lambda i: (-i.size_bytes, i.first, i.name)),
        sorted(intervals, key=lambda i: (-i.size_bytes, -i.first, i.name)),
        sorted(intervals, key=lambda i: (-(i.last - i.first), -i.size_bytes, i.name)),
        sorted(intervals, key=lambda i: (-i.size_bytes * (i.last - i.first + 1), i.name)),
        sorted(intervals, key=lambda i: (i.first, -i.size_bytes, i.name)),
        sorted(intervals, key=lambda i: (-i.last, -i.size_bytes, i.name)),
    ]
    order, best = min(
        ((order, conflicts.first_fit(order)) for order in orders),
        key=lambda pair: conflicts.height(pair[1]),
    )
    height = conflicts.height(best)
    generator = random.Random(0)
    for _ in range(conflicts.rounds()):
        if height <= bound or len(order) < 2:
            break
        candidate = _moved_up(order, best, height, generator)
        offsets = conflicts.first_fit(candidate)
        top = conflicts.height(offsets)
        if top <= height:
            best, height, order = offsets, top, candidate
    return best


class _Conflicts:
    """For each interval, those that it meets in time, and which offsets they leave to it."""

    def __init__(self, intervals: Sequence[Interval], overlaps: Sequence[Overlap]) -> None:
        self.sizes = {i.name: i.size_bytes for i in intervals}
        # Beside an interval at offset o, another may not start in (o - before, o + after).
        self.reach: dict[str, dict[str, tuple[int, int]]] = {i.name: {} for i in intervals}
        for a in intervals:
            for b in intervals:
                if a is not b and a.overlaps(b):
                    self.reach[a.name][b.name] = (a.size_bytes, b.size_bytes)
        for overlap in overlaps:
            output, source = overlap.output, overlap.source
            distance = -(-overlap.distance_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            distance = min(distance, self.sizes[output])
            self.reach[output][source] = (distance, self.sizes[source])
            self.reach[source][output] = (self.sizes[source], distance)

    def mirrored(self) -> _Conflicts:
        """The same with the arena upside down: first fit then fills it from the top."""
        turned = _Conflicts((), ())
        turned.sizes = self.sizes
        turned.reach = {
            name: {
                other: (
                    self.sizes[name] - self.sizes[other] + after,
                    self.sizes[other] - self.sizes[name] + before,
                )
                for other, (before, after) in reach.items()
            }
            for name, reach in self.reach.items()
        }
        return turned

    def rounds(self) -> int:
        """How often to try to improve: less often where one try takes longer."""
        work = sum(len(reach) for reach in self.reach.values())
        return min(MOST_ROUNDS, max(FEWEST_ROUNDS, WORK // max(1, work)))

    def first_fit(self, order: Sequence[Interval]) -> dict[str, int]:
        """The lowest free offset of each interval in turn."""
        offsets: dict[str, int] = {}
        for interval in order:
            blocked = sorted(
                (offsets[name] - before, offsets[name] + after)
                for name, (before, after) in self.reach[interval.name].items()
                if name in offsets
            )
            offset = 0
            for low, high in blocked:
                if offset <= low:
                    break
                if high > offset:
                    offset = high
            offsets[interval.name] = offset
        return offsets

    def height(self, offsets: dict[str, int]) -> int:
        """Of the arena."""
        return max((offset + self.sizes[name] for name, offset in offsets.items()), default=0)


def _moved_up(
    order: Sequence[Interval], offsets: dict[str, int], height: int, generator: random.Random
) -> list[Interval]:
    """The order with one of the topmost intervals (or any) placed earlier."""
    topmost = [i for i in order if offsets[i.name] + i.size_bytes == height]
    chosen = generator.choice(topmost if generator.random() < 0.7 else list(order))
    changed = [interval for interval in order if interval is not chosen]
    changed.insert(generator.randrange(order.index(chosen) + 1), chosen)
    return changed
