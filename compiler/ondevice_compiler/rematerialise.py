"""Rematerialisation: an activation that backward reads is computed again instead of being kept.

The second computation is the same step on the same inputs, before any of its parameters is updated:
the training step gives the same bits. Candidates are tried in the order of bytes saved for each
multiply-accumulate (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016), and kept
where the peak of memory falls.
"""

from __future__ import annotations

from dataclasses import replace

from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.order import Graph, search
from ondevice_compiler.program import Program, Step

SUFFIX = ".again"
QUICK_WIDTH = 6  # Of the beam: every candidate needs an order of its own.


def rematerialise(program: Program, macs_cap: float, in_place: bool = True) -> Program:
    """Computes activations again in backward where that lowers the peak of memory.

    Args:
        program: Of its final types, not yet ordered.
        macs_cap: Most multiply-accumulates added, as a share of the training step's.
        in_place: Outputs will be written over inputs where they may.
    """
    steps = [step for step in program.steps if step.phase != "apply"]
    costs = {step.name: OPERATORS[step.op].macs(step, program) for step in steps}
    left = macs_cap * sum(costs.values())
    saved = {n for step in steps if step.phase in ("backward", "update") for n in step.inputs}
    candidates = [
        step
        for step in steps
        if step.phase == "forward"
        and len(step.outputs) == 1
        and step.outputs[0] in saved
        and program.tensor(step.outputs[0]).kind == "activation"
    ]
    candidates.sort(
        key=lambda s: (-program.tensor(s.outputs[0]).size_bytes / (costs[s.name] + 1), s.name)
    )
    chosen: list[str] = []
    best, peak = program, _peak_bytes(program, in_place)
    for step in candidates:
        if costs[step.name] > left:
            continue
        changed = _again(program, [*chosen, step.outputs[0]])
        needed = _peak_bytes(changed, in_place)
        if needed < peak:
            best, peak = changed, needed
            left -= costs[step.name]
            chosen.append(step.outputs[0])
    return best


def _again(program: Program, names: list[str]) -> Program:
    """The program with some activations computed again, from each other where they are."""
    again = {name: f"{name}{SUFFIX}" for name in names}
    tensors = dict(program.tensors)
    forward: list[Step] = []
    copies: list[Step] = []
    others: list[Step] = []
    for step in program.steps:
        renamed = tuple(again.get(name, name) for name in step.inputs)
        if step.phase in ("backward", "update"):
            others.append(replace(step, inputs=renamed))
            continue
        (others if step.phase == "apply" else forward).append(step)
        if step.phase == "forward" and step.outputs[0] in again:
            name = again[step.outputs[0]]
            tensors[name] = replace(tensors[step.outputs[0]], name=name)
            copy = replace(
                step, name=f"again/{name}", inputs=renamed, outputs=(name,), phase="backward"
            )
            copies.append(copy)
    return replace(program, tensors=tensors, steps=(*forward, *copies, *others))


def _peak_bytes(program: Program, in_place: bool) -> int:
    """Peak of backward and update, in a good order quickly found."""
    steps = tuple(step for step in program.steps if step.phase != "apply")
    graph = Graph.of(replace(program, steps=steps), in_place)
    forward = [i for i, step in enumerate(steps) if step.phase in ("forward", "loss")]
    rest = [i for i, step in enumerate(steps) if step.phase not in ("forward", "loss")]
    return graph.peak_bytes(search(graph, forward, rest, QUICK_WIDTH), forward)
