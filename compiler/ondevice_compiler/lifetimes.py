"""When the arena's tensors live, and which of them may share bytes all the same.

A tensor lives from the step that writes it to the last that reads it. A step that is done with an
input may write its output over it: how far the output must then start before it follows from what
the step reads (access.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ondevice_compiler.access import overlap_distance
from ondevice_compiler.program import Program, Strip
from ondevice_compiler.strips import (
    Layout,
    buffered,
    resident_tensor,
    stage_distance,
    step_in_bands,
    strip_layout,
)

ALIGNMENT_BYTES = 4
IN_ARENA = ("input", "activation", "gradient", "mask", "statistic")


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
class Overlap:
    """An output that may be written over an input while the input is read for the last time.

    Attributes:
        output, source: Names of the two.
        distance_bytes: The output starts at least so far before the input, or behind its end; if
            negative, the output may start that far behind the input's first byte.
    """

    output: str
    source: str
    distance_bytes: int


@dataclass(frozen=True)
class Lifetimes:
    """What the planner places.

    Attributes:
        intervals: In order of their first step.
        overlaps: Pairs that may share bytes although both are live.
    """

    intervals: tuple[Interval, ...]
    overlaps: tuple[Overlap, ...]


def lifetimes(program: Program, in_place: bool = True) -> Lifetimes:
    """Intervals of the tensors that live in the arena, and what may be done in place.

    Args:
        program: Ordered.
        in_place: Look for outputs that may be written over inputs.
    """
    layouts = buffered(program)
    strips = {i: s for s in program.strips for i in range(s.first, s.last + 1)}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for index, step in enumerate(program.steps):
        strip = strips.get(index)
        for name in dict.fromkeys((*step.inputs, *step.outputs)):
            base, _ = program.storage(name)
            if not in_arena(program, base):
                continue
            start, end = _span(program, base, index, strip, layouts)
            first.setdefault(base, -1 if base == program.input else start)
            last[base] = end
    sizes = {name: resident_tensor(program, name, layouts).size_bytes for name in first}
    intervals = tuple(Interval(n, _aligned(sizes[n]), first[n], last[n]) for n in first)
    if not in_place:
        return Lifetimes(intervals, ())
    by_name = {interval.name: interval for interval in intervals}
    found = [*_of_steps(program, by_name, layouts), *_of_strips(program, by_name, layouts)]
    useful = [o for o in found if shared_bytes(by_name, {o.output, o.source}, [o])]
    return Lifetimes(intervals, tuple(useful))


def in_arena(program: Program, name: str) -> bool:
    """The output has a buffer of its own, since it is read after the step."""
    return program.tensor(name).kind in IN_ARENA and program.storage(name)[0] != program.output


def needed_bytes(intervals: Sequence[Interval], overlaps: Sequence[Overlap] = ()) -> dict[int, int]:
    """For each step that begins a life, bytes that are live, less what they may share."""
    by_name = {interval.name: interval for interval in intervals}
    needed = {}
    for step in sorted({interval.first for interval in intervals}):
        live = {i.name for i in intervals if i.first <= step <= i.last}
        total = sum(by_name[name].size_bytes for name in live)
        needed[step] = total - shared_bytes(by_name, live, overlaps)
    return needed


def lower_bound(intervals: Sequence[Interval], overlaps: Sequence[Overlap] = ()) -> int:
    """Bytes that no plan can do without."""
    return max(needed_bytes(intervals, overlaps).values(), default=0)


def shared_bytes(
    intervals: Mapping[str, Interval], live: set[str], overlaps: Sequence[Overlap]
) -> int:
    """Most bytes that the live tensors can share."""
    shared: dict[str, int] = {}
    for overlap in overlaps:
        if overlap.output in live and overlap.source in live:
            output, source = intervals[overlap.output], intervals[overlap.source]
            most = most_shared_bytes(output.size_bytes, source.size_bytes, overlap.distance_bytes)
            shared[output.name] = min(output.size_bytes, shared.get(output.name, 0) + most)
    return sum(shared.values())


def most_shared_bytes(output_bytes: int, source_bytes: int, distance_bytes: int) -> int:
    """Bytes that an output and the input under it have in common at most."""
    return max(0, min(output_bytes, source_bytes, output_bytes - distance_bytes))


def _span(
    program: Program, name: str, index: int, strip: Strip | None, layouts: Mapping[str, Layout]
) -> tuple[int, int]:
    """Steps during which a use of a tensor keeps it alive: in a strip, every band comes again."""
    if strip is None or (name in layouts and name not in layouts[name].kept):
        return index, index
    return strip.first, strip.last


def _of_steps(
    program: Program, by_name: Mapping[str, Interval], layouts: Mapping[str, Layout]
) -> Iterator[Overlap]:
    """Outputs over inputs that die with the step."""
    in_strips = {i for s in program.strips for i in range(s.first, s.last + 1)}
    for index, step in enumerate(program.steps):
        output = step.outputs[0] if len(step.outputs) == 1 else ""
        if output not in by_name or by_name[output].first != index:
            continue
        if index not in in_strips:
            variants = [(step, program)]
        elif output in layouts:
            variants = step_in_bands(program, layouts[output], index)
        else:
            continue
        for name in dict.fromkeys(step.inputs):
            if name != output and name in by_name and by_name[name].last == index:
                distances = [overlap_distance(s, p, name) for s, p in variants]
                known = [distance for distance in distances if distance is not None]
                if len(known) == len(distances):
                    yield Overlap(output, name, max(known))


def _of_strips(
    program: Program, by_name: Mapping[str, Interval], layouts: Mapping[str, Layout]
) -> Iterator[Overlap]:
    """What a strip writes over what only it still reads, both in full."""
    for strip in program.strips:
        steps = program.steps[strip.first : strip.last + 1]
        written = {n for s in steps for n in s.outputs if n in by_name and n not in layouts}
        read = dict.fromkeys(n for s in steps for n in s.inputs if n in by_name)
        layout = strip_layout(program, strip)
        assert layout is not None
        for source in read:
            if source in written or source in layouts or by_name[source].last != strip.last:
                continue
            for output in sorted(n for n in written if by_name[n].first == strip.first):
                distance = stage_distance(program, strip, layout, output, source)
                yield Overlap(output, source, distance)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
