"""Order of the steps: forward as given; backward so that the least memory is live.

A list scheduler: of the steps whose inputs exist and whose in-place updates no reader still waits
for, it takes the one after which the least is live. Updates therefore run as soon as their gradient
exists, which is the operator reordering of the Tiny Training Engine (Lin et al., 2022).
"""

from __future__ import annotations

from dataclasses import replace

from ondevice_compiler.program import Program, Step

IN_ARENA = ("input", "activation", "gradient", "mask", "statistic")


def order(program: Program) -> Program:
    """Reorders the backward and update steps; the result computes the same."""
    forward = [step for step in program.steps if step.phase in ("forward", "loss")]
    waiting = [step for step in program.steps if step.phase in ("backward", "update")]
    apply = [step for step in program.steps if step.phase == "apply"]
    produced = {name for step in waiting for name in set(step.outputs) - set(step.inputs)}
    done = {name for step in forward for name in step.outputs}
    scheduled: list[Step] = []
    while waiting:
        ready = [s for s in waiting if _ready(s, waiting, done, produced)]
        best = min(ready, key=lambda step: (_growth(step, waiting, program), waiting.index(step)))
        waiting.remove(best)
        done.update(best.outputs)
        scheduled.append(best)
    ordered = replace(program, steps=(*forward, *scheduled, *apply))
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


def _ready(step: Step, waiting: list[Step], done: set[str], produced: set[str]) -> bool:
    for name in step.inputs:
        if name in produced and name not in done and name not in step.outputs:
            return False
    in_place = set(step.inputs) & set(step.outputs)
    others = (other for other in waiting if other is not step)
    return not any(in_place & set(other.inputs) for other in others)


def _growth(step: Step, waiting: list[Step], program: Program) -> int:
    """Bytes that become live minus bytes that die when `step` runs next."""
    born = sum(_arena_bytes(name, program) for name in step.outputs)
    others = [other for other in waiting if other is not step]
    read = {name for other in others for name in other.inputs}
    dead = sum(_arena_bytes(name, program) for name in set(step.inputs) if name not in read)
    return born - dead


def _arena_bytes(name: str, program: Program) -> int:
    tensor = program.tensor(name)
    return tensor.size_bytes if tensor.kind in IN_ARENA else 0
