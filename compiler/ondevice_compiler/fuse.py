"""Fewer, larger steps: clips into what they follow, gradients into the update they feed."""

from __future__ import annotations

from dataclasses import replace

from ondevice_compiler.program import Program, Step, Tensor
from ondevice_compiler.updates import Optimizer, updates_in_place

CLIP_HOSTS = ("conv2d", "conv2d_transpose", "add", "subtract", "group_norm")
MASK_HOSTS = (
    "conv2d_dx",
    "conv2d_transpose_dx",
    "max_pool2d_gradient",
    "avg_pool2d_gradient",
    "add_gradient",
    "multiply_gradient",
    "lookup_gradient",
    "upsample2d_gradient",
    "slice_gradient",
    "crop_gradient",
    "group_norm_gradient",
)


def fuse(program: Program, optimizer: Optimizer) -> Program:
    """Applies every fusion; the result has no gradient tensor of a parameter left."""
    program = _clip_into_host(program)
    program = _mask_into_host(program)
    program = _argmax_as_bytes(_masks_as_bits(program))
    return _without_unused(updates_in_place(program, optimizer))


def _clip_into_host(program: Program) -> Program:
    """conv2d or add followed only by a clip: the clip becomes the host's output range."""
    steps = list(program.steps)
    for clip in [step for step in steps if step.op == "clip"]:
        source = clip.inputs[0]
        host = next((s for s in steps if source in s.outputs and s.op in CLIP_HOSTS), None)
        readers = [step for step in steps if source in step.inputs]
        if host is None or readers != [clip] or "low" in host.attributes:
            continue
        fused = replace(host, outputs=clip.outputs, name=clip.name)
        fused = fused.with_attributes(**clip.attributes)  # bounds, and the scale that a file fixes
        steps[steps.index(host)] = fused
        steps.remove(clip)
    return _without_unused(replace(program, steps=tuple(steps)))


def _mask_into_host(program: Program) -> Program:
    """clip_gradient whose input only it reads: the producer masks while it stores."""
    steps = list(program.steps)
    for clip in [step for step in steps if step.op == "clip_gradient"]:
        source, output = clip.inputs
        host = next((s for s in steps if source in s.outputs), None)
        readers = [step for step in steps if source in step.inputs]
        bounds = {"low": clip.attributes["low"], "high": clip.attributes["high"], "mask": "output"}
        masked = host is not None and "mask" in host.attributes  # Two clips in a row.
        if host is None or host.op not in MASK_HOSTS or readers != [clip] or masked:
            steps[steps.index(clip)] = clip.with_attributes(**bounds)
            continue
        fused = replace(host, outputs=clip.outputs, inputs=(*host.inputs, output), name=clip.name)
        steps[steps.index(host)] = fused.with_attributes(**bounds)
        steps.remove(clip)
    return _without_unused(replace(program, steps=tuple(steps)))


def _masks_as_bits(program: Program) -> Program:
    """An activation that backward reads only as a mask is saved as one bit an element."""
    steps = list(program.steps)
    tensors = dict(program.tensors)
    masked = [step for step in steps if step.attributes.get("mask") == "output"]
    for name in dict.fromkeys(step.inputs[-1] for step in masked):
        users = [s for s in steps if s.phase not in ("forward", "loss") and name in s.inputs]
        as_mask = [step for step in users if step in masked and step.inputs[-1] == name]
        if any(name in step.inputs[:-1] for step in users) or len(as_mask) != len(users):
            continue
        bits = f"{name}.mask"
        tensors[bits] = Tensor(bits, (-(-tensors[name].elements // 8),), "uint8", "mask")
        for step in as_mask:
            changed = replace(step, inputs=(*step.inputs[:-1], bits)).with_attributes(mask="bits")
            steps[steps.index(step)] = changed
        producer = next(index for index, step in enumerate(steps) if name in step.outputs)
        bounds = {key: as_mask[0].attributes[key] for key in ("low", "high")}
        pack = Step(f"forward/{bits}", "pack_mask", (name,), (bits,)).with_attributes(**bounds)
        steps.insert(producer + 1, pack)
    return replace(program, steps=tuple(steps), tensors=tensors)


def _argmax_as_bytes(program: Program) -> Program:
    """The index in a pooling window takes a byte, whatever the type of the program."""
    indices = {n for s in program.steps if s.op == "max_pool2d_argmax" for n in s.outputs}
    tensors = {
        name: replace(tensor, dtype="uint8") if name in indices else tensor
        for name, tensor in program.tensors.items()
    }
    return replace(program, tensors=tensors)


def _without_unused(program: Program) -> Program:
    used = {name for step in program.steps for name in (*step.inputs, *step.outputs)}
    used |= {program.input, program.label, program.output, *program.gradients.values()}
    used |= {name for name, tensor in program.tensors.items() if tensor.kind == "state"}
    return replace(
        program, tensors={name: t for name, t in program.tensors.items() if name in used}
    )
