"""The order of the steps: least memory by search, against every order there is."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice_compiler.order import Graph, greedy, order, search
from ondevice_compiler.program import Program, Step, Tensor
from small_networks import compiled

UPDATES = ("a", "b")


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Steps that read random earlier tensors and parameters, some of which they update."""
    tensors = {"x": Tensor("x", (draw(st.integers(1, 40)),), "int8", "input")}
    tensors |= {name: Tensor(name, (4,), "int8", "parameter") for name in UPDATES}
    steps, updated = [], set()
    for index in range(draw(st.integers(1, 7))):
        readable = [n for n, t in tensors.items() if t.kind != "parameter"]
        inputs = draw(st.lists(st.sampled_from(readable), min_size=1, max_size=3, unique=True))
        parameter = draw(st.sampled_from([None, *UPDATES]))
        if parameter is not None and parameter not in updated and draw(st.booleans()):
            updated.add(parameter)
            steps.append(Step(f"s{index}", "clip", (*inputs, parameter), (parameter,)))
            continue
        if parameter is not None:
            inputs.append(parameter)
        name = f"t{index}"
        tensors[name] = Tensor(name, (draw(st.integers(1, 40)),), "int8", "activation")
        steps.append(Step(f"s{index}", "clip", tuple(inputs), (name,)))
    return Program("p", tensors, tuple(steps), {}, "x", "x", "none", "mse")


def legal(program: Program, chosen: tuple[int, ...]) -> bool:
    """Everything is read after it is written, parameters before they are updated."""
    there = {"x", *UPDATES}
    for position, index in enumerate(chosen):
        step = program.steps[index]
        if not set(step.inputs) <= there:
            return False
        for later in chosen[position + 1 :]:
            if set(step.outputs) & set(program.steps[later].inputs) & set(UPDATES):
                return False
        there.update(step.outputs)
    return True


def peak_bytes(program: Program, chosen: tuple[int, ...]) -> int:
    """Most bytes live at a step, counted without the compiler."""
    live, peak = {"x"}, program.tensor("x").size_bytes
    for position, index in enumerate(chosen):
        step = program.steps[index]
        live |= {n for n in step.outputs if n not in UPDATES}
        peak = max(peak, sum(program.tensor(n).size_bytes for n in live))
        later = {n for i in chosen[position + 1 :] for n in program.steps[i].inputs}
        used = {n for i in chosen[: position + 1] for n in program.steps[i].inputs + step.outputs}
        live = {n for n in live if n in later or n not in used}
    return peak


@settings(max_examples=60, deadline=None)
@given(programs())
def test_the_order_found_needs_as_little_as_the_best_of_all_orders(program: Program) -> None:
    count = len(program.steps)
    graph = Graph.of(program, in_place=False)
    found = search(graph, (), range(count))
    assert legal(program, found)
    every = [chosen for chosen in permutations(range(count)) if legal(program, chosen)]
    assert graph.peak_bytes(found) == min(peak_bytes(program, chosen) for chosen in every)


@pytest.mark.parametrize("name", ["wearer", "residual", "inverted"])
@pytest.mark.parametrize("in_place", [False, True])
def test_no_order_needs_more_than_that_of_the_list_scheduler(name: str, in_place: bool) -> None:
    program = compiled(name).program
    shuffled = replace(program, steps=tuple(s for s in program.steps if s.phase != "apply"))
    graph = Graph.of(shuffled, in_place)
    every = range(len(shuffled.steps))
    ordered = order(program, in_place)
    best = [shuffled.steps.index(step) for step in ordered.steps if step.phase != "apply"]
    assert graph.peak_bytes(best) <= graph.peak_bytes(greedy(graph, (), every))


def test_the_same_program_is_ordered_the_same_way_again() -> None:
    program = compiled("residual").program
    assert order(program) == order(program)
