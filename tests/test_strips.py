"""Band by band and in place: the same numbers as step by step, in less memory."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import cache
from itertools import product
from types import MappingProxyType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.access import overlap_distance
from ondevice_compiler.compile import CompiledModel
from ondevice_compiler.lifetimes import lifetimes
from ondevice_compiler.program import Program, Step, Strip, Tensor
from ondevice_compiler.strips import strip_layout
from ondevice_compiler.tiling.tile import LARGEST_PIXELS
from small_networks import Network, compile_stage, compiled

# The module, not the function of the same name.
schedule_stage = importlib.import_module("ondevice_compiler.schedule")
PLAIN = {"patch": False, "in_place": False, "reorder": False}


class Stage(nn.Module):  # type: ignore[misc]
    """A first stage like MCUNet's: strides, 5x5, depthwise, a residual, both pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.expand = nn.Conv2d(8, 16, 1)
        self.wide = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.project = nn.Conv2d(16, 8, 1)
        self.thin = nn.Conv2d(8, 4, 1, stride=2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.depthwise(F.relu(self.stem(x))))
        x = x + self.project(F.relu6(self.wide(F.relu6(self.expand(x)))))
        x = F.max_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1)
        return self.fc(F.relu(self.thin(x)).mean((2, 3)))


STAGE = Network(Stage, (2, 37, 32))


def compiled_stage(strips: Any = None, **options: Any) -> tuple[CompiledModel, Program]:
    """The network with given strips, or those that the compiler chooses."""
    choose = schedule_stage.choose_strips if strips is None else strips
    y = np.arange(16) % 5
    with (
        mock.patch.object(schedule_stage, "choose_strips", choose),
        mock.patch.object(compile_stage, "emit", wraps=compile_stage.emit) as spy,
    ):
        model = compile_model(STAGE.module(), STAGE.samples(16), y, CompileOptions(**options))
    return model, spy.call_args.args[0].program


@cache
def compiled_plainly(dtype: str, scheme: str) -> CompiledModel:
    """The network without anything that saves memory."""
    return compiled_stage(dtype=dtype, scheme=scheme, **PLAIN)[0]


def outcome(model: CompiledModel) -> list[Any]:
    """All that some training steps give."""
    native = NativeModel(model.files, model.manifest)
    found: list[Any] = []
    for index, x in enumerate(STAGE.samples(3, seed=7)):
        found += [native.evaluate(x, index), native.train(x, index, 0.05), native.scales()]
        found.append(native.output().tobytes())
    return [*found, {name: value.tobytes() for name, value in native.parameters().items()}]


@pytest.mark.parametrize(("dtype", "scheme"), [("float32", "last-2"), ("int8", "bias")])
def test_bands_and_overwriting_change_no_bit_and_save_memory(dtype: str, scheme: str) -> None:
    model, program = compiled_stage(dtype=dtype, scheme=scheme)
    plain = compiled_plainly(dtype, scheme)
    assert outcome(model) == outcome(plain)
    saved = plain.manifest["memory"]["arena_bytes"] - model.manifest["memory"]["arena_bytes"]
    assert saved > 0
    if scheme != "bias":
        assert program.strips
        assert saved > plain.manifest["memory"]["arena_bytes"] // 2


def test_a_strip_over_all_that_can_be_banded_changes_no_bit() -> None:
    lengths = []

    def longest(program: Program, in_place: bool) -> Program:
        end = next(i for i, s in enumerate(program.steps) if s.phase != "forward")
        runs = [Strip(first, last, 1) for first in (0, 2) for last in range(end - 1, first, -1)]
        layouts = {run: strip_layout(program, run) for run in runs}
        strip = next(run for run, found in layouts.items() if found and len(found.bands) > 2)
        lengths.append(strip.last - strip.first + 1)
        return replace(program, strips=(strip,))

    model, _ = compiled_stage(longest, scheme="bias")
    plain = compiled_plainly("int8", "bias")
    assert lengths[0] > 10
    assert "for (uint32_t band" in model.files["model.c"]
    assert outcome(model) == outcome(plain)


@st.composite
def window_steps(draw: st.DrawFn) -> tuple[Step, Program]:
    """A convolution, depthwise or not, or the gradient of one."""
    kernel, stride = draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 2))
    pad = draw(st.integers(0, kernel // 2))
    size = draw(st.integers(kernel, 9)), draw(st.integers(kernel, 9))
    out = [(extent + 2 * pad - kernel) // stride + 1 for extent in size]
    channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    x = Tensor("x", (1, *size, channels[0]), "int8", "activation")
    y = Tensor("y", (1, *out, channels[1]), "int8", "activation")
    w = Tensor("w", (channels[1], kernel, kernel, channels[0]), "int8", "parameter")
    backward = draw(st.booleans())
    inputs, outputs = (("y", "w"), ("x",)) if backward else (("x", "w", "w"), ("y",))
    attributes = {"stride": (stride, stride), "padding": (pad,) * 4, "groups": 1}
    name = "conv2d_dx" if backward else "conv2d"
    step = Step(name, name, inputs, outputs, MappingProxyType(attributes))
    tensors = {"x": x, "y": y, "w": w}
    return step, Program("p", tensors, (step,), {}, "x", "x", "y", "mse")


def clobbers(step: Step, program: Program, distance: int) -> bool:
    """Whether a pixel is overwritten before its last read, if the output starts `distance` ahead.

    Runs the loops of the kernel on addresses: channel by channel over a few pixels at a time.
    """
    source, output = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    kernel, stride = program.tensor("w").shape[1], step.attributes["stride"][0]
    pad = step.attributes["padding"][0]
    pixels = list(product(range(output.shape[1]), range(output.shape[2])))
    for begin in range(LARGEST_PIXELS):
        written: set[int] = set()
        tiles = [pixels[:begin]]
        tiles += [pixels[i : i + LARGEST_PIXELS] for i in range(begin, len(pixels), LARGEST_PIXELS)]
        for tile in tiles:
            for channel, (row, column) in product(range(output.shape[3]), tile):
                for kh, kw in product(range(kernel), range(kernel)):
                    if step.op == "conv2d":
                        r, c = row * stride + kh - pad, column * stride + kw - pad
                    else:
                        r, c = row + pad - kh, column + pad - kw
                        if r % stride or c % stride:
                            continue
                        r, c = r // stride, c // stride
                    if 0 <= r < source.shape[1] and 0 <= c < source.shape[2]:
                        first = (r * source.shape[2] + c) * source.shape[3]
                        if written & set(range(first, first + source.shape[3])):
                            return True
                pixel = row * output.shape[2] + column
                written.add(pixel * output.shape[3] + channel - distance)
    return False


@settings(max_examples=60, deadline=None)
@given(window_steps())
def test_an_output_at_its_distance_overwrites_nothing_that_is_still_read(
    made: tuple[Step, Program],
) -> None:
    step, program = made
    source, output = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    distance = overlap_distance(step, program, source.name)
    assert distance is not None
    if distance < output.size_bytes:
        assert not clobbers(step, program, distance)


@pytest.mark.parametrize(
    ("kernel", "channels", "distance"),
    [
        (1, (16, 4), 4 * 4),  # Four pixels of four bytes are written while they are read.
        (1, (4, 16), 64 * 16 - 60 * 4),  # The output grows towards the input's last pixels.
        (
            3,
            (2, 2),
            (8 + 2 + 3) * 2,
        ),  # A row and a pixel above are read, and the four pixels.
    ],
)
def test_the_distance_is_that_of_the_pixels_still_to_be_read(
    kernel: int, channels: tuple[int, int], distance: int
) -> None:
    x, y = (
        Tensor(n, (1, 8, 8, c), "int8", "activation") for n, c in zip("xy", channels, strict=True)
    )
    w = Tensor("w", (channels[1], kernel, kernel, channels[0]), "int8", "parameter")
    attributes = {"stride": (1, 1), "padding": (kernel // 2,) * 4, "groups": 1}
    step = Step("s", "conv2d", ("x", "w", "w"), ("y",), MappingProxyType(attributes))
    program = Program("p", {"x": x, "y": y, "w": w}, (step,), {}, "x", "x", "y", "mse")
    assert overlap_distance(step, program, "x") == distance


@pytest.mark.parametrize("name", ["residual", "inverted"])
def test_outputs_lie_over_inputs_and_their_kernels_may_not_restrict(name: str) -> None:
    made = compiled(name)
    pairs = [
        (overlap.output, overlap.source)
        for overlap in lifetimes(made.program).overlaps
        if made.plan.share(overlap.output, overlap.source)
    ]
    assert pairs
    kernels = made.model.files["kernels.h"]
    assert "*out" in kernels or "*y" in kernels
    ops = {op["name"]: op["kernel"] for op in made.model.manifest["ops"]}
    for output, source in pairs:
        producer = made.program.producer(output)
        assert producer is not None
        assert source in producer.inputs
        head = kernels[kernels.index(f"static void {ops[producer.name]}(") :].split(")", 1)[0]
        assert head.count("restrict") < head.count("*")
