"""Memory plan: lifetimes of the arena's tensors -> byte offsets.

Placing intervals with the least total height is NP-hard; a first-fit over several orders, improved
by swapping, is within a few per cent of the liveness lower bound for training steps, because one or
two steps dominate. Everything is deterministic.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ondevice_compiler.order import IN_ARENA
from ondevice_compiler.program import Program

ALIGNMENT_BYTES = 4
IMPROVEMENT_ROUNDS = 400


@dataclass(frozen=True)
class Interval:
    """One tensor of the arena.

    Attributes:
        name: Of the tensor.
        size_bytes: Rounded up to the alignment.
        first: Step that writes it; -1 for the input, which is there before the first step.
        last: Last step that reads or writes it.
    """

    name: str
    size_bytes: int
    first: int
    last: int

    def overlaps(self, other: Interval) -> bool:
        """Whether both are live at some step."""
        return self.first <= other.last and other.first <= self.last


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
        lower_bound_bytes: Largest sum of live tensors over the steps: no plan can need less.
    """

    placements: dict[str, Placement]
    arena_bytes: int
    lower_bound_bytes: int


def plan_program(program: Program) -> Plan:
    """Plans the arena of a program's forward, backward and update steps."""
    return plan(lifetimes(program))


def lifetimes(program: Program) -> list[Interval]:
    """Intervals of the tensors that live in the arena, in order of their first step."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        for name in (*step.inputs, *step.outputs):
            if in_arena(program, name):
                first.setdefault(name, -1 if name == program.input else index)
                last[name] = index
    return [
        Interval(name, _aligned(program.tensor(name).size_bytes), start, last[name])
        for name, start in first.items()
    ]


def in_arena(program: Program, name: str) -> bool:
    """The output has a buffer of its own, since it is read after the step."""
    return program.tensor(name).kind in IN_ARENA and name != program.output


def lower_bound(intervals: Sequence[Interval]) -> int:
    """Largest sum of the sizes of simultaneously live intervals, in bytes."""
    steps = {interval.first for interval in intervals}
    return max(
        (sum(i.size_bytes for i in intervals if i.first <= step <= i.last) for step in steps),
        default=0,
    )


def plan(intervals: Sequence[Interval]) -> Plan:
    """Places intervals so that none overlaps in time and bytes.

    Args:
        intervals: Any order; names unique.

    Returns:
        The best plan found.
    """
    bound = lower_bound(intervals)
    orders = [
        sorted(intervals, key=lambda i: (-i.size_bytes, i.first, i.name)),
        sorted(intervals, key=lambda i: (-(i.last - i.first), -i.size_bytes, i.name)),
        sorted(intervals, key=lambda i: (-i.size_bytes * (i.last - i.first + 1), i.name)),
        sorted(intervals, key=lambda i: (i.first, -i.size_bytes, i.name)),
    ]
    best, height = [], None
    order: list[Interval] = []
    for candidate in orders:
        placed = _first_fit(candidate)
        top = _height(placed)
        if height is None or top < height:
            best, height, order = placed, top, candidate
    generator = random.Random(0)
    for _ in range(IMPROVEMENT_ROUNDS):
        if height is None or height <= bound or len(order) < 2:
            break
        candidate = _moved_up(order, best, generator)
        placed = _first_fit(candidate)
        top = _height(placed)
        if top <= height:
            best, height, order = placed, top, candidate
    return Plan({p.interval.name: p for p in best}, height or 0, bound)


def _first_fit(order: Sequence[Interval]) -> list[Placement]:
    placed: list[Placement] = []
    for interval in order:
        offset = 0
        for other in sorted(placed, key=lambda p: p.offset):
            if not other.interval.overlaps(interval):
                continue
            if offset + interval.size_bytes <= other.offset:
                break
            offset = max(offset, other.offset + other.interval.size_bytes)
        placed.append(Placement(interval, offset))
    return placed


def _moved_up(
    order: Sequence[Interval], placed: Sequence[Placement], generator: random.Random
) -> list[Interval]:
    """The order with one of the topmost intervals (or any) placed earlier."""
    top = _height(placed)
    topmost = [p.interval for p in placed if p.offset + p.interval.size_bytes == top]
    chosen = generator.choice(topmost if generator.random() < 0.7 else list(order))
    changed = [interval for interval in order if interval is not chosen]
    changed.insert(generator.randrange(order.index(chosen) + 1), chosen)
    return changed


def _height(placed: Sequence[Placement]) -> int:
    return max((p.offset + p.interval.size_bytes for p in placed), default=0)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
