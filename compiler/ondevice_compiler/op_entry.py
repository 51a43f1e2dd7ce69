"""One operator in the manifest: what it computes, of which layer, and the tensors it touches."""

from __future__ import annotations

from typing import Any

from ondevice_compiler.lower import Call
from ondevice_compiler.program import Program, Step

# What autodiff puts before the name of a tensor's gradient.
GRADIENT = "d."
OF_ALL_LAYERS = ("private_sum", "private_noise")


def op_entry(program: Program, index: int, call: Call) -> dict[str, Any]:
    """Describes one step.

    `read_bytes` and `written_bytes` are the sizes of the step's tensors in memory, each tensor
    once, however often the kernel goes over it; one that is updated in place counts on both sides.
    """
    step = call.step
    return {
        "index": index,
        "name": step.name,
        "op": step.op,
        "phase": step.phase,
        "layer": layer(program, step),
        "macs": call.macs,
        "kernel": call.kernel,
        "read_bytes": sum(program.tensor(name).size_bytes for name in set(step.inputs)),
        "written_bytes": sum(program.tensor(name).size_bytes for name in set(step.outputs)),
    }


def layer(program: Program, step: Step) -> str:
    """The layer that a step belongs to.

    That of the parameter which it reads or updates; without one, the longest beginning of its
    output's name that is a layer with parameters, and failing that the name itself.
    """
    for name in (*step.outputs, *step.inputs):
        if program.tensor(name).kind == "parameter":
            return _module(name)
    modules = {_module(t.name) for t in program.tensors.values() if t.kind == "parameter"}
    if not step.outputs or step.op in OF_ALL_LAYERS:  # as the clip's norm
        return step.name
    name = step.outputs[0].removeprefix(GRADIENT)
    parts = name.split(".")
    beginnings = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((start for start in beginnings if start in modules), name)


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter
