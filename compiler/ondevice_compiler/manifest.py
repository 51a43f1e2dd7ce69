"""The manifest: what the host tool must know of a compiled model."""

from __future__ import annotations

from typing import Any

from ondevice_compiler.compression import ROUND_PHASE
from ondevice_compiler.listing import Listing
from ondevice_compiler.memory import memory_need
from ondevice_compiler.op_entry import op_entry
from ondevice_compiler.private_updates import NOISE_KEY
from ondevice_compiler.program import Tensor
from ondevice_compiler.strips import buffered, resident_tensor
from ondevice_compiler.updates import UPDATE_STEPS

LABEL_KINDS = {"cross_entropy": "class", "binary_cross_entropy": "binary", "mse": "vector"}
WEIGHT_FORMATS = {"int16": "q8.8", "int32": "int32", "float32": "float32"}
STATE_FORMATS = {
    "velocity": "momentum",
    "sum": "accumulator",
    "m": "first moment",
    "v": "second moment",
    UPDATE_STEPS: "counter",
    NOISE_KEY: "noise key",
    "residual": "residual",
    "anchor": "anchor",
    ROUND_PHASE: "round phase",
}


def describe_model(listing: Listing) -> dict[str, Any]:
    """The part of the manifest that follows from the program and the plan.

    Call it when the whole listing has been written: only then are all tables known.
    """
    program, plan = listing.program, listing.plan
    source, label = program.tensor(program.input), program.tensor(program.label)
    layouts = buffered(program)
    state = listing.state()
    need = memory_need(program, plan, len(listing.scales))
    constants = listing.constants()
    const_bytes = sum(t.size_bytes for t in constants) + need.parameter_bytes
    const_bytes += listing.table_bytes()
    input_entry: dict[str, Any] = {
        "shape": list(source.shape),
        "dtype": source.dtype,
        "bytes": source.size_bytes,
    }
    if source.quantization is not None:
        input_entry["scale"] = source.quantization.scale[0]
        input_entry["zero_point"] = source.quantization.zero_point
    for step in program.steps:
        if step.op == "embedding":
            input_entry["limit"] = program.tensor(step.inputs[1]).shape[0]
    return {
        "loss": program.loss,
        "input": input_entry,
        "label": {
            "kind": LABEL_KINDS[program.loss],
            "count": program.tensor(program.output).elements,
            "dtype": label.dtype,
            "bytes": label.size_bytes,
        },
        "output": {"count": program.tensor(program.output).elements},
        "parameters": [
            {
                "index": index,
                "name": t.name,
                "shape": list(t.shape),
                "dtype": t.dtype,
                "bytes": t.size_bytes,
                "kind": t.kind,
                "format": parameter_format(t),
                "scale": list(t.quantization.scale) if t.quantization else None,
                **_part(t),
            }
            for index, t in enumerate(state)
        ],
        "ops": [op_entry(program, index, call) for index, call in enumerate(listing.lowered.calls)],
        "scales": [
            {"index": i, "name": name, "elements": program.tensor(name).elements}
            for i, name in enumerate(listing.scales)
        ],
        "memory": {
            "arena_bytes": need.arena_bytes,
            "lower_bound_bytes": plan.lower_bound_bytes,
            "parameter_bytes": need.parameter_bytes,
            "state_bytes": need.state_bytes,
            "scale_bytes": need.scale_bytes,
            "io_bytes": need.io_bytes,
            "ram_bytes": need.ram_bytes,
            "const_bytes": const_bytes,
            "tensors": [
                {
                    "name": p.interval.name,
                    "kind": program.tensor(p.interval.name).kind,
                    "offset": p.offset,
                    "bytes": resident_tensor(program, p.interval.name, layouts).size_bytes,
                    "first_step": p.interval.first,
                    "last_step": p.interval.last,
                }
                for p in plan.placements.values()
            ],
        },
    }


def _part(tensor: Tensor) -> dict[str, Any]:
    """Of a weight trained in part (or its optimiser state): which channels these are."""
    if tensor.part is None:
        return {}
    axis, channels, extent = tensor.part.axis, tensor.part.channels, tensor.part.extent
    return {"part": {"axis": axis, "channels": list(channels), "of": extent}}


def parameter_format(tensor: Tensor) -> str:
    """How a parameter or state is stored, or what it holds."""
    if tensor.kind == "state":
        return STATE_FORMATS[tensor.name.rpartition(".")[2]]
    return WEIGHT_FORMATS[tensor.dtype]
