"""One small step of every kind of int8 kernel, and several of them as one task to measure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from layers import (
    average_pool,
    bias_update,
    forward,
    gradient_copy,
    gradient_sum,
    input_gradient,
    packed_mask,
    residual_add,
    weight_update,
)

from native_kernels import Case, Outcome, make_step, one_step
from native_model import _Scale
from ondevice.measure.task import UNWRITTEN, Task
from ondevice_compiler.program import Part, Program, Quantization, Step, Tensor

# size, input channels, output channels, window, stride, depthwise; odd sizes leave rests.
LAYERS: dict[str, dict[str, Any]] = {
    "1x1": {"size": 3, "inputs": 36, "outputs": 8},
    "1x1 odd": {"size": 3, "inputs": 17, "outputs": 7},
    "3x3 s2": {"size": 7, "inputs": 3, "outputs": 8, "kernel": 3, "stride": 2},
    "linear": {"size": 1, "inputs": 53, "outputs": 10},
    "dw3x3": {"size": 4, "inputs": 20, "outputs": 20, "kernel": 3, "depthwise": True},
    "dw3x3 s2 odd": {
        "size": 4, "inputs": 7, "outputs": 7, "kernel": 3, "stride": 2, "depthwise": True
    },
}  # fmt: skip
RATE = 2.0**-14  # Of every update; they share one.


def kernel_cases() -> dict[str, Case]:
    """The cases by name; always the same."""
    made: dict[str, Case] = {}
    for name, layer in LAYERS.items():
        made[f"{name} forward"] = _case(forward(name, **layer))
        made[f"{name} dX"] = _case(input_gradient(name, **layer, mask="odd" in name))
        made[f"{name} dW"] = _case(weight_update(name, **layer))
        for way in ("forward", "dX"):
            made[f"{name} {way} q8.8"] = _trained(made[f"{name} {way}"])
            if "odd" in name:
                made[f"{name} {way} split"] = _split(made[f"{name} {way} q8.8"])
    made["bias"] = _case(bias_update("bias", 5, 7, 7))
    made["add"] = _case(residual_add("add", 5, 7))
    made["add gradient"] = _case(gradient_sum("add", 5, 7))
    made["gradient copy"] = _case(gradient_copy("copy", 5, 7))
    for low, high in ((-128, 127), (-70, -3), (12, 90), (127, 127)):
        made[f"mask {low}"] = _case(packed_mask("mask", 5, 7, low, high))
    made["average pool"] = _case(average_pool("pool", 5, 19))
    made["max pool"], made["max pool gradient"] = _max_pool()
    return made


def one_task(cases: Mapping[str, Case]) -> Task:
    """All cases as one program, one step after another, on tensors of their own."""
    tensors: dict[str, Tensor] = {}
    steps: list[Step] = []
    values: dict[str, Any] = {}
    exponents: dict[str, int] = {}
    rates: set[float] = set()
    for number, case in enumerate(cases.values()):
        new = {name: f"c{number}_{name}" for name in case.program.tensors}
        for name, tensor in case.program.tensors.items():
            tensors[new[name]] = replace(tensor, name=new[name])
        step = case.program.steps[0]
        steps.append(
            replace(
                step,
                name=f"c{number}",
                inputs=tuple(new[name] for name in step.inputs),
                outputs=tuple(new[name] for name in step.outputs),
                attributes=MappingProxyType(
                    {
                        key: new.get(value, value) if isinstance(value, str) else value
                        for key, value in step.attributes.items()
                    }
                ),
            )
        )
        values |= {new[name]: value for name, value in case.values.items()}
        exponents |= {new[name]: value for name, value in case.exponents.items()}
        rates |= {case.rate} - {0.0}
    (rate,) = rates
    first, last = steps[0].inputs[0], steps[-1].outputs[0]
    program = Program("cases", tensors, tuple(steps), {}, first, first, last, "mse")
    return Task("cases", program, values, exponents, rate)


def checksum(task: Task, outcomes: Mapping[str, Outcome]) -> int:
    """CRC-32 of what firmware/measure covers, from what the cases wrote on this computer."""
    memory = bytearray([UNWRITTEN]) * len(task.arena())
    counters = b""
    for number, outcome in enumerate(outcomes.values()):
        for name, value in outcome.values.items():
            if f"c{number}_{name}" in task.offsets:
                first = task.offsets[f"c{number}_{name}"]
                memory[first : first + value.nbytes] = value.tobytes()
        for name, counted in outcome.counters.items():
            exponent = task.exponents[f"c{number}_{name}"]
            counters += bytes(_Scale(0.0, exponent, *counted))
    return zlib.crc32(counters, zlib.crc32(bytes(memory)))


def _case(task: Task) -> Case:
    named = {name: np.asarray(value) for name, value in task.values.items()}
    updates = task.program.steps[0].op in ("conv2d_dw", "bias_gradient")
    return Case(task.program, named, dict(task.exponents), RATE if updates else 0.0)


def _replaced(case: Case, tensors: list[Tensor], inputs: list[str], values: Any) -> Case:
    step = replace(case.program.steps[0], inputs=tuple(inputs))
    program = replace(case.program, tensors={t.name: t for t in tensors}, steps=(step,))
    return replace(case, program=program, values={**case.values, **values})


def _trained(case: Case) -> Case:
    """With Q8.8 weights, whose low bytes differ."""
    random = np.random.default_rng(5)
    weight = replace(case.program.tensor("w"), dtype="int16", trainable=True)
    w = case.values["w"].astype(np.int16) * 256 + random.integers(0, 256, weight.shape)
    tensors = [weight if t.name == "w" else t for t in case.program.tensors.values()]
    inputs = list(case.program.steps[0].inputs)
    return _replaced(case, tensors, inputs, {"w": w.astype(np.int16)})


def _split(case: Case) -> Case:
    """With a weight of which some input channels (of a depthwise one: channels) are trained."""
    weight = case.program.tensor("w")
    assert weight.quantization is not None
    depthwise = case.program.steps[0].attributes["groups"] > 1
    axis = 0 if depthwise else 3
    extent = weight.shape[axis]
    held = list(range(1, extent - 1)) if extent < 8 else [0, *range(3, extent // 2 + 2)]
    parts, values = [], {}
    for name, channels in (("w", held), ("w.frozen", [c for c in range(extent) if c not in held])):
        content = np.take(case.values["w"], channels, axis)
        scale = weight.quantization.scale
        if depthwise:
            scale = tuple(scale[c] for c in channels)
        if name != "w":
            content = (content >> 8).astype(np.int8)
        dtype = str(content.dtype)
        part = Part(axis, tuple(channels), extent)
        tensor = Tensor(
            name, content.shape, dtype, "parameter", Quantization(scale), name == "w", part
        )
        parts.append(tensor)
        values[name] = content
    others = [t for t in case.program.tensors.values() if t.name != "w"]
    inputs = list(case.program.steps[0].inputs)
    place = 2 if case.program.steps[0].op == "conv2d_dx" else len(inputs)
    inputs.insert(place, "w.frozen")
    return _replaced(case, [*parts, *others], inputs, values)


def _max_pool() -> tuple[Case, Case]:
    random = np.random.default_rng(6)
    window = {"kernel": (2, 3), "stride": (2, 1), "padding": (1, 1, 0, 1)}
    same = Quantization((0.02,), -3)
    x = Tensor("x", (1, 5, 6, 7), "int8", "activation", same)
    y = Tensor("y", (1, 3, 6, 7), "int8", "activation", same)
    pool = one_step(make_step("max_pool2d", "x", "y", **window), [x, y])
    values = {"x": random.integers(-128, 128, x.shape).astype(np.int8)}
    fold = Quantization(tuple(random.uniform(0.002, 0.02, 7)))
    g = Tensor("g", y.shape, "int8", "gradient", fold)
    index = Tensor("index", y.shape, "uint8", "mask")
    out = Tensor("out", x.shape, "int8", "gradient", fold)
    step = make_step("max_pool2d_gradient", ["g", "index"], ["out"], **window)
    below = {
        "g": random.integers(-127, 128, y.shape).astype(np.int8),
        "index": random.integers(0, 6, y.shape).astype(np.uint8),
    }
    gradient = Case(one_step(step, [g, index, out]), below, {"g": 0, "out": 0})
    return Case(pool, values, {}), gradient
