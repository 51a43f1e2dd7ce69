"""Which runs of forward steps are executed band by band: those that lower the peak of memory.

A run starts and ends where little is live: between blocks. What a run needs does not depend on the
others, so the division of the forward pass into runs, each executed step by step or as a strip, is
found by dynamic programming: first the least peak, then the fewest strips that reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ondevice_compiler.lifetimes import Interval, lifetimes, needed_bytes
from ondevice_compiler.program import Program, Strip
from ondevice_compiler.strips import strip_layout

ROWS = (8, 4, 2)  # Rows of a band, where one would need no less.
SLACK = 0.01  # Of the peak: a strip less may cost so much. Strips take flash for their kernels.
LONGEST_RUN = 12  # Cuts that a strip may span.


def choose_strips(program: Program, in_place: bool = True) -> Program:
    """Adds the strips that lower the peak of memory; the program computes the same.

    Args:
        program: Ordered, without strips.
        in_place: Outputs will be written over inputs where they may.
    """
    end = next((i for i, s in enumerate(program.steps) if s.phase != "forward"), 0)
    needed = _needed(program, in_place)
    cuts = _cuts(lifetimes(program, False).intervals, end)
    rest = max((n for step, n in needed.items() if step >= end), default=0)
    plain = {(a, b): _most(needed, a, b) for a in cuts for b in cuts if a < b}
    stripped = {}
    for a, b in plain:
        strip = Strip(a, b - 1, 1)
        near = cuts.index(b) - cuts.index(a) <= LONGEST_RUN
        if near and plain[a, b] > rest and _bands(program, strip) > 1:
            stripped[a, b] = _peak(program, strip, in_place)
    least = max(rest, _least_peak(cuts, plain, stripped))
    limit = least * (1 + SLACK)
    strips = []
    for a, b in _fewest(cuts, plain, stripped, limit):
        for rows in (*ROWS, 1):
            strip = Strip(a, b - 1, rows)
            if rows == 1 or (
                _bands(program, strip) > 2 and _peak(program, strip, in_place) <= limit
            ):
                strips.append(strip)
                break
    if not strips:
        return program
    changed = replace(program, strips=tuple(strips))
    return changed


def _needed(program: Program, in_place: bool) -> dict[int, int]:
    found = lifetimes(program, in_place)
    return needed_bytes(found.intervals, found.overlaps)


def _most(needed: Mapping[int, int], first: int, end: int) -> int:
    """Most bytes needed at the steps from `first` to before `end`."""
    first = -1 if first == 0 else first
    return max((n for step, n in needed.items() if first <= step < end), default=0)


def _peak(program: Program, strip: Strip, in_place: bool) -> int:
    """Most bytes needed while a strip runs."""
    needed = _needed(replace(program, strips=(strip,)), in_place)
    return _most(needed, strip.first, strip.last + 1)


def _bands(program: Program, strip: Strip) -> int:
    """How many bands a strip has; 0 where it cannot be executed band by band."""
    layout = strip_layout(program, strip)
    return 0 if layout is None else len(layout.bands)


def _cuts(intervals: Sequence[Interval], steps: int) -> list[int]:
    """Steps before which no more is live than before their neighbours."""
    live = [
        sum(i.size_bytes for i in intervals if i.first < step <= i.last)
        for step in range(steps + 1)
    ]
    inner = [s for s in range(1, steps) if live[s] <= live[s - 1] and live[s] <= live[s + 1]]
    return [0, *inner, steps]


def _least_peak(
    cuts: Sequence[int],
    plain: Mapping[tuple[int, int], int],
    stripped: Mapping[tuple[int, int], int],
) -> int:
    """The least peak of any division into runs."""
    least = {cuts[0]: 0}
    for end in cuts[1:]:
        least[end] = min(
            max(least[a], min(plain[a, end], stripped.get((a, end), plain[a, end])))
            for a in cuts
            if a < end
        )
    return least[cuts[-1]]


def _fewest(
    cuts: Sequence[int],
    plain: Mapping[tuple[int, int], int],
    stripped: Mapping[tuple[int, int], int],
    limit: float,
) -> list[tuple[int, int]]:
    """The strips of the division with the fewest strips, then steps in strips, below a limit."""
    best: dict[int, tuple[int, int, list[tuple[int, int]]]] = {cuts[0]: (0, 0, [])}
    for end in cuts[1:]:
        found = []
        for a in (cut for cut in cuts if cut < end and cut in best):
            count, steps, strips = best[a]
            if plain[a, end] <= limit:
                found.append((count, steps, strips))
            elif stripped.get((a, end), limit + 1) <= limit:
                found.append((count + 1, steps + end - a, [*strips, (a, end)]))
        if found:
            best[end] = min(found)
    return best[cuts[-1]][2]
