"""Prunes the joint program to what an update scheme needs, and splits weights trained in part.

A weight trained in part becomes two tensors, so that only the trained channels take RAM. Of the
layer's input, backward then needs only these channels: they are copied as soon as the layer has run
forward, and the map itself can die.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ondevice_compiler.program import Part, Program, Step, Tensor, prune
from ondevice_compiler.scheme.channels import channel_axis
from ondevice_compiler.scheme.update_scheme import UpdateScheme


def select(program: Program, scheme: UpdateScheme) -> Program:
    """Keeps the gradients of the trained parameters and drops every step only others need.

    Args:
        program: Joint program, from `differentiate`.
        scheme: From `resolve_scheme`.
    """
    gradients = {n: g for n, g in program.gradients.items() if n in scheme.parameters}
    error = f"d.{program.output}"
    kept = prune(program, [*gradients.values(), program.output, error])
    tensors = {
        name: replace(tensor, trainable=name in scheme.parameters)
        for name, tensor in kept.tensors.items()
    }
    kept = replace(kept, tensors=tensors, gradients=gradients)
    whole = {w for w in scheme.channels if _kept_anyway(kept, _input_of(kept, w), scheme)}
    for weight in scheme.channels:
        kept = _split(kept, weight, scheme.channels[weight], sliced=weight not in whole)
    return kept


def _split(program: Program, weight: str, channels: Sequence[int], sliced: bool) -> Program:
    """One weight in two tensors: `weight` keeps the trained channels, `weight.frozen` the rest.

    Args:
        program: Where `weight` is whole.
        weight: Name of the weight.
        channels: To train.
        sliced: Save only these channels of the layer's input for backward.
    """
    axis = channel_axis(program, weight)
    whole = program.tensor(weight)
    extent = whole.shape[axis]
    frozen = f"{weight}.frozen"
    rest = [channel for channel in range(extent) if channel not in channels]
    gradient = program.gradients[weight]
    tensors, values = dict(program.tensors), dict(program.values)
    for name, held in ((weight, channels), (frozen, rest)):
        shape = (*whole.shape[:axis], len(held), *whole.shape[axis + 1 :])
        part = Part(axis, tuple(held), extent)
        tensors[name] = replace(whole, name=name, shape=shape, part=part, trainable=name == weight)
        values[name] = np.ascontiguousarray(program.values[weight].take(list(held), axis))
    tensors[gradient] = replace(tensors[gradient], shape=tensors[weight].shape)

    copy = f"{weight.removesuffix('.weight')}.channels"
    steps: list[Step] = []
    for step in program.steps:
        if step.op == "conv2d" and step.inputs[1] == weight:
            if sliced:
                x = tensors[step.inputs[0]]
                shape = (*x.shape[:3], len(channels))
                tensors[copy] = replace(x, name=copy, shape=shape, kind="activation")
                slice_ = Step(f"forward/{copy}", "slice_channels", (x.name,), (copy,))
                steps.append(slice_.with_attributes(channels=tuple(channels)))
            steps.append(replace(step, inputs=(*step.inputs, frozen)))
        elif step.op == "conv2d_dx" and step.inputs[1] == weight:
            steps.append(replace(step, inputs=(*step.inputs, frozen)))
        elif gradient in step.outputs:
            narrowed = _narrowed(step, tensors[weight], sliced)
            inputs = (step.inputs[0], copy) if sliced else step.inputs
            steps.append(replace(narrowed, inputs=inputs))
        else:
            steps.append(step)
    return replace(program, steps=tuple(steps), tensors=tensors, values=values)


def _narrowed(step: Step, trained: Tensor, sliced: bool) -> Step:
    """The weight's gradient, of the trained channels alone."""
    assert trained.part is not None
    channels = trained.part.channels
    step = step.with_attributes(shape=trained.shape)
    if trained.part.axis == 0:
        step = step.with_attributes(groups=len(channels), g_channels=channels)
    return step if sliced else step.with_attributes(x_channels=channels)


def _input_of(program: Program, weight: str) -> str:
    return next(s.inputs[0] for s in program.consumers(weight) if s.op == "conv2d")


def _kept_anyway(program: Program, x: str, scheme: UpdateScheme) -> bool:
    """Whether backward reads the whole map, and not only its mask or chosen channels."""
    return any(
        step.op != "clip_gradient" and step.attributes.get("weight") not in scheme.channels
        for step in program.consumers(x)
        if step.phase == "backward"
    )
