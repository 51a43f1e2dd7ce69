"""Order of the steps: the one in which the least memory is live at the worst step.

A beam search over topological orders, of the forward pass and then of backward and updates: of all
ways to have run the same set of steps only the best is kept, and of the sets of one size only the
most promising. Small programs are therefore searched exhaustively. Updates run as soon as it pays:
the operator reordering of the Tiny Training Engine (Lin et al., 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ondevice_compiler.access import overlap_distance
from ondevice_compiler.lifetimes import in_arena, most_shared_bytes
from ondevice_compiler.program import Program, Step

BEAM_WIDTH = 48


def order(program: Program, in_place: bool = True, reorder: bool = True) -> Program:
    """Reorders the steps; the result computes the same.

    Args:
        program: Steps in dependency order; those of `apply` last.
        in_place: Outputs will be written over inputs where they may.
        reorder: Search; if not, the order stays as far as in-place updates allow.
    """
    apply = tuple(step for step in program.steps if step.phase == "apply")
    steps = tuple(step for step in program.steps if step.phase != "apply")
    graph = Graph.of(replace(program, steps=steps), in_place)
    chosen: tuple[int, ...] = ()
    for forward in (True, False):
        part = [i for i, s in enumerate(steps) if (s.phase in ("forward", "loss")) == forward]
        candidates = [unchanged(graph, chosen, part)]
        if reorder:
            candidates = [search(graph, chosen, part), greedy(graph, chosen, part), *candidates]
        chosen += min(candidates, key=lambda found: graph.peak_bytes(found, chosen))
    ordered = replace(program, steps=(*(steps[index] for index in chosen), *apply))
    check_updates(ordered)
    return ordered


def check_updates(program: Program) -> None:
    """Asserts that no step reads a parameter after its in-place update.

    Raises:
        AssertionError: The order is wrong: a bug of the compiler.
    """
    updated: set[str] = set()
    for step in program.steps:
        if step.phase == "apply":
            break
        read = set(step.inputs) - set(step.outputs)
        stale = {name for name in read & updated if program.tensor(name).kind == "parameter"}
        assert not stale, f"{step.name} reads {stale} after the in-place update"
        updated.update(step.outputs)


@dataclass(frozen=True)
class Graph:
    """Steps as numbers: what each must wait for, and what it does to the arena.

    Attributes:
        waits: For each step, the steps before it, as a set of bits.
        born: Bytes that each step brings to life.
        users: For each tensor, the steps that use it, as a set of bits; and its bytes.
        shared: For each step, the tensors it may write over, with the most bytes it may save.
    """

    waits: tuple[int, ...]
    born: tuple[int, ...]
    users: tuple[tuple[int, int], ...]
    shared: tuple[tuple[tuple[int, int], ...], ...]
    first_live_bytes: int = 0

    @classmethod
    def of(cls, program: Program, in_place: bool) -> Graph:
        """The graph of a program's steps, in their order."""
        steps = program.steps
        storage = {name: program.storage(name)[0] for name in program.tensors}
        arena = [n for n in program.tensors if storage[n] == n and in_arena(program, n)]
        numbers = {name: number for number, name in enumerate(arena)}
        users = [0] * len(arena)
        writers: dict[str, int] = {}
        for index, step in enumerate(steps):
            for name in {storage[n] for n in (*step.inputs, *step.outputs)}:
                if name in numbers:
                    users[numbers[name]] |= 1 << index
                    writers.setdefault(name, index)
        sizes = [program.tensor(name).size_bytes for name in arena]
        born = [0] * len(steps)
        for name, index in writers.items():
            if name != program.input:
                born[index] += sizes[numbers[name]]
        shared: list[tuple[tuple[int, int], ...]] = []
        for index, step in enumerate(steps):
            found = []
            fresh = len(step.outputs) == 1 and writers.get(step.outputs[0]) == index
            for name in dict.fromkeys(step.inputs) if in_place and fresh else ():
                if name in numbers:
                    distance = overlap_distance(step, program, name)
                    if distance is not None:
                        output_bytes, source = born[index], numbers[name]
                        most = most_shared_bytes(output_bytes, sizes[source], distance)
                        found.append((source, most))
            shared.append(tuple(found))
        return cls(
            tuple(_waits(program, storage)),
            tuple(born),
            tuple(zip(users, sizes, strict=True)),
            tuple(shared),
            sum(sizes[numbers[n]] for n in (program.input,) if n in numbers),
        )

    @cached_property
    def used(self) -> tuple[tuple[int, ...], ...]:
        """For each step, the tensors it uses."""
        return tuple(
            tuple(n for n, (users, _) in enumerate(self.users) if users >> index & 1)
            for index in range(len(self.waits))
        )

    def after(self, index: int, done: int, live_bytes: int) -> tuple[int, int]:
        """Runs a step: bytes needed while it runs, and bytes live after it."""
        done |= 1 << index
        needed = live_bytes + self.born[index]
        dying = {n for n in self.used[index] if not self.users[n][0] & ~done}
        saved = sum(most for n, most in self.shared[index] if n in dying)
        return (
            needed - min(saved, self.born[index]),
            needed - sum(self.users[n][1] for n in dying),
        )

    def peak_bytes(self, steps: Iterable[int], before: Iterable[int] = ()) -> int:
        """Most bytes needed at any of `steps`, run in their order after those of `before`."""
        done, live_bytes = self.run(before)
        peak = live_bytes
        for index in steps:
            needed, live_bytes = self.after(index, done, live_bytes)
            done |= 1 << index
            peak = max(peak, needed)
        return peak

    def run(self, steps: Iterable[int]) -> tuple[int, int]:
        """What is done, as a set of bits, and live, in bytes, after some steps from the start."""
        done, live_bytes = 0, self.first_live_bytes
        for index in steps:
            _, live_bytes = self.after(index, done, live_bytes)
            done |= 1 << index
        return done, live_bytes


def unchanged(graph: Graph, before: Sequence[int], part: Sequence[int]) -> tuple[int, ...]:
    """Orders the steps of `part`: always the first that may run."""
    done, _ = graph.run(before)
    waiting, chosen = list(part), []
    while waiting:
        first = next(index for index in waiting if not graph.waits[index] & ~done)
        done |= 1 << first
        waiting.remove(first)
        chosen.append(first)
    return tuple(chosen)


def greedy(graph: Graph, before: Sequence[int], part: Sequence[int]) -> tuple[int, ...]:
    """Orders the steps of `part`: always that after which the least is live."""
    done, live_bytes = graph.run(before)
    waiting, chosen = list(part), []
    while waiting:
        ready = [index for index in waiting if not graph.waits[index] & ~done]
        following = {index: graph.after(index, done, live_bytes)[1] for index in ready}
        best = min(ready, key=lambda index: (following[index], index))
        live_bytes = following[best]
        done |= 1 << best
        waiting.remove(best)
        chosen.append(best)
    return tuple(chosen)


@dataclass(frozen=True)
class _State:
    """One way to have run a set of steps.

    Attributes:
        peak_bytes: The most that was needed.
        sum_bytes: What was needed, summed over the steps: of orders with one peak, the leaner.
        live_bytes: What is live now; the same for every way.
        last: The step run last, and the state before it.
    """

    peak_bytes: int
    sum_bytes: int
    live_bytes: int
    last: tuple[int, _State] | None = None


def search(
    graph: Graph, before: Sequence[int], part: Sequence[int], width: int = BEAM_WIDTH
) -> tuple[int, ...]:
    """Beam search for the order of some steps that has the least peak.

    Args:
        graph: Holds the steps.
        before: Steps that have run, in their order.
        part: Steps to order.
        width: Sets of executed steps kept for each number of steps.
    """
    done, live_bytes = graph.run(before)
    beam = {done: _State(live_bytes, 0, live_bytes)}
    for _ in part:
        reached: dict[int, _State] = {}
        for done, state in beam.items():
            for index in part:
                if done >> index & 1 or graph.waits[index] & ~done:
                    continue
                needed, live_bytes = graph.after(index, done, state.live_bytes)
                peak_bytes = max(state.peak_bytes, needed)
                sum_bytes = state.sum_bytes + needed
                known = reached.get(done | 1 << index)
                if known is None or (peak_bytes, sum_bytes) < (known.peak_bytes, known.sum_bytes):
                    reached[done | 1 << index] = _State(
                        peak_bytes, sum_bytes, live_bytes, (index, state)
                    )
        kept = sorted(reached.items(), key=lambda i: (i[1].peak_bytes, i[1].sum_bytes, i[0]))
        beam = dict(kept[:width])
    found = []
    last = next(iter(beam.values())).last
    while last is not None:
        found.append(last[0])
        last = last[1].last
    return tuple(reversed(found))


def _waits(program: Program, storage: Mapping[str, str]) -> list[int]:
    """For each step, the steps that must run before it.

    A reader waits for the last writer before it, and a writer for the readers before it, in the
    program's order; but every reader of a parameter comes before its in-place update.
    """
    steps = program.steps
    waits = [0] * len(steps)
    touches = _touches(steps, storage)
    for name, uses in touches.items():
        updated = program.tensor(name).kind == "parameter"
        ordered = sorted(uses, key=lambda use: (use[1], use[0])) if updated else uses
        written = readers = 0
        for index, writes in ordered:
            waits[index] |= written | (readers if writes else 0)
            if writes:
                written, readers = 1 << index, 0
            else:
                readers |= 1 << index
    return [mask & ~(1 << index) for index, mask in enumerate(waits)]


def _touches(
    steps: Sequence[Step], storage: Mapping[str, str]
) -> dict[str, list[tuple[int, bool]]]:
    """For each tensor, the steps that use it, in order, and whether they write it."""
    found: dict[str, list[tuple[int, bool]]] = {}
    for index, step in enumerate(steps):
        written = {storage[name] for name in step.outputs}
        for name in dict.fromkeys(storage[n] for n in (*step.inputs, *step.outputs)):
            found.setdefault(name, []).append((index, name in written))
    return found
