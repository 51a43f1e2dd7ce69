"""Integer or float program -> kernels in C and the calls that run them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.codegen import PLACEHOLDER
from ondevice_compiler.kernel_builder import Argument, KernelBuilder, TensorArgument
from ondevice_compiler.kernel_cache import KernelCache
from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.ops.losses import LOSS_CALLS
from ondevice_compiler.plan import Plan
from ondevice_compiler.program import Program, Step, Strip
from ondevice_compiler.strips import Band, Layout, band_step, row_elements, strip_layout
from ondevice_compiler.tiling.database import measured_tile
from ondevice_compiler.tiling.tile import Choose

NO_CACHE = KernelCache(None)
RUNTIME_CALLS = (*LOSS_CALLS, "quantize_error", "clip_norm", "private_sum", "private_noise")


@dataclass(frozen=True)
class Kernel:
    """One C function, shared by every step of the same shape.

    Attributes:
        name: Of the function.
        source: Its definition.
    """

    name: str
    source: str


@dataclass(frozen=True)
class Call:
    """What runs one step.

    Attributes:
        step: The step.
        kernel: Name of the kernel; empty where the runtime itself does the step (losses).
        arguments: In the order of the kernel's parameters.
        macs: Multiply-accumulates.
    """

    step: Step
    kernel: str
    arguments: tuple[Argument, ...]
    macs: int


@dataclass(frozen=True)
class RowMove:
    """What moves the rows that the next band needs to the front of their buffer.

    Attributes:
        tensor: Name of the buffered map.
        first: First element moved.
        elements: How many.
    """

    tensor: str
    first: int
    elements: int


@dataclass(frozen=True)
class BandCall:
    """One step in one band, or in the equal bands of a loop.

    Attributes:
        index: Of the step's `Call`.
        kernel, arguments: As in `Call`.
    """

    index: int
    kernel: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class BandLoop:
    """Consecutive bands that differ only in where they read and write whole maps.

    Attributes:
        count: Of bands.
        body: Of each.
    """

    count: int
    body: tuple[BandCall | RowMove, ...]


@dataclass(frozen=True)
class Lowered:
    """Kernels and calls of a program.

    Attributes:
        program: What was lowered.
        kernels: In order of first use.
        calls: One a step.
        strips: For each strip of the program, its bands; they replace the calls of its steps.
    """

    program: Program
    kernels: tuple[Kernel, ...]
    calls: tuple[Call, ...]
    strips: tuple[tuple[BandLoop, ...], ...] = ()

    def __str__(self) -> str:
        """The C of every kernel."""
        return "\n".join(kernel.source for kernel in self.kernels)


def lower(
    program: Program,
    plan: Plan | None = None,
    tiles: Choose = measured_tile,
    cache: KernelCache = NO_CACHE,
) -> Lowered:
    """Builds, schedules and prints the kernel of every step; equal kernels are shared.

    Args:
        program: Ordered.
        plan: Of the program; says which arguments of a kernel share bytes. None: none do.
        tiles: Chooses the register tiles.
        cache: Of the kernels' C.
    """
    kernels = _Kernels(plan, tiles, cache)
    in_strips = {i for s in program.strips for i in range(s.first, s.last + 1)}
    strips = tuple(_lower_strip(program, strip, kernels) for strip in program.strips)
    usual = {part.index: part for loops in strips for part in _longest(loops)}
    calls = []
    for index, step in enumerate(program.steps):
        if step.op in RUNTIME_CALLS:
            calls.append(Call(step, "", (), 0))
            continue
        if index in in_strips:
            name, arguments = usual[index].kernel, usual[index].arguments
        else:
            name, arguments = kernels.add(step, program)
        calls.append(Call(step, name, arguments, OPERATORS[step.op].macs(step, program)))
    return Lowered(program, kernels.all(), tuple(calls), strips)


def kernel_steps(program: Program) -> Iterator[tuple[Step, Program]]:
    """Every step as a kernel sees it, with the program it sees: one of a strip, band by band."""
    in_strips = {i for s in program.strips for i in range(s.first, s.last + 1)}
    for index, step in enumerate(program.steps):
        if step.op not in RUNTIME_CALLS and index not in in_strips:
            yield step, program
    for strip in program.strips:
        layout = strip_layout(program, strip)
        assert layout is not None
        for band in layout.bands:
            for part in band.steps:
                yield band_step(program, layout, part)


class _Kernels:
    """Collects kernels; the same source is kept once."""

    def __init__(self, plan: Plan | None, tiles: Choose, cache: KernelCache) -> None:
        self._plan = plan
        self._tiles = tiles
        self._cache = cache
        self._lowered: dict[str, tuple[str, tuple[Argument, ...]]] = {}
        self._names: dict[str, str] = {}
        self._used: dict[str, int] = {}

    def add(self, step: Step, program: Program) -> tuple[str, tuple[Argument, ...]]:
        """Name of a step's kernel, and its arguments; equal bands of a step are lowered once."""
        shapes = [program.tensor(name).shape for name in (*step.inputs, *step.outputs)]
        key = repr((step.name, shapes, dict(step.attributes)))
        if key not in self._lowered:
            self._lowered[key] = self._lower(step, program)
        return self._lowered[key]

    def _lower(self, step: Step, program: Program) -> tuple[str, tuple[Argument, ...]]:
        builder = KernelBuilder(PLACEHOLDER, tiles=self._tiles)
        OPERATORS[step.op].lower(builder, step, program)
        shared = self._shared(builder, program)
        source = self._cache.to_c(builder.finish(), builder.written, shared)
        if source not in self._names:
            base = _function_name(step, program)
            self._used[base] = self._used.get(base, 0) + 1
            suffix = "" if self._used[base] == 1 else f"_{self._used[base]}"
            self._names[source] = base + suffix
        return self._names[source], tuple(builder.arguments)

    def all(self) -> tuple[Kernel, ...]:
        """In order of first use."""
        return tuple(
            Kernel(name, source.replace(f" {PLACEHOLDER}(", f" {name}(", 1))
            for source, name in self._names.items()
        )

    def _shared(self, builder: KernelBuilder, program: Program) -> set[str]:
        """Parameters that share bytes with another one, of which one is written."""
        found: set[str] = set()
        for written in builder.written:
            for other, tensor in builder.tensors.items():
                if other != written and self._share(program, builder.tensors[written], tensor):
                    found.update((written, other))
        return found

    def _share(self, program: Program, first: str, second: str) -> bool:
        a, b = program.storage(first)[0], program.storage(second)[0]
        placed = {} if self._plan is None else self._plan.placements
        return self._plan is not None and a in placed and b in placed and self._plan.share(a, b)


def _lower_strip(program: Program, strip: Strip, kernels: _Kernels) -> tuple[BandLoop, ...]:
    """The bands of a strip, equal ones in a row as one loop."""
    layout = strip_layout(program, strip)
    assert layout is not None
    bands = [_lower_band(program, layout, band, kernels) for band in layout.bands]
    places = [_places(body) for body in bands]
    loops: list[BandLoop] = []
    first = 0
    while first < len(bands):
        end = first + 1
        if end < len(bands) and _shape(bands[first]) == _shape(bands[end]):
            advance = places[end] - places[first]
            while end < len(bands) and _shape(bands[first]) == _shape(bands[end]):
                if (places[end] != places[first] + advance * (end - first)).any():
                    break
                end += 1
            loops.append(BandLoop(end - first, _advancing(bands[first], advance)))
        else:
            loops.append(BandLoop(1, bands[first]))
        first = end
    return tuple(loops)


Body = tuple[BandCall | RowMove, ...]


def _lower_band(program: Program, layout: Layout, band: Band, kernels: _Kernels) -> Body:
    body: list[BandCall | RowMove] = []
    for part in band.steps:
        step, shaped = band_step(program, layout, part)
        name, arguments = kernels.add(step, shaped)
        rows = {step.outputs[0]: part.written[0]} | {
            n: read[0] for n, read in zip(step.inputs, part.read, strict=True) if read is not None
        }
        placed: list[Argument] = []
        for argument in arguments:
            if isinstance(argument, TensorArgument) and argument.tensor in rows:
                held = band.held.get(argument.tensor, (0, 0))
                row = rows[argument.tensor] - held[0]
                first = row * _row(program, layout, argument.tensor)
                placed.append(replace(argument, first=first))
            else:
                placed.append(argument)
        body.append(BandCall(part.index, name, tuple(placed)))
    for name, (first, end) in band.moved.items():
        elements = _row(program, layout, name)
        body.append(
            RowMove(name, (first - band.held[name][0]) * elements, (end - first) * elements)
        )
    return tuple(body)


def _row(program: Program, layout: Layout, name: str) -> int:
    return row_elements(program.tensor(name), layout.heights[name])


def _shape(body: Body) -> list[object]:
    """All of a band but the places in whole maps."""
    return [part if isinstance(part, RowMove) else (part.index, part.kernel) for part in body]


def _places(body: Body) -> NDArray[np.int64]:
    """First elements of the maps that a band's calls read and write."""
    calls = [part for part in body if isinstance(part, BandCall)]
    found = [a.first for c in calls for a in c.arguments if isinstance(a, TensorArgument)]
    return np.asarray(found, np.int64)


def _advancing(body: Body, advance: NDArray[np.int64]) -> Body:
    """The body of a loop whose places move on by `advance` in each turn."""
    steps = iter(advance.tolist())
    parts: list[BandCall | RowMove] = []
    for part in body:
        if isinstance(part, BandCall):
            arguments = tuple(
                replace(a, advance=next(steps)) if isinstance(a, TensorArgument) else a
                for a in part.arguments
            )
            parts.append(replace(part, arguments=arguments))
        else:
            parts.append(part)
    return tuple(parts)


def _longest(loops: tuple[BandLoop, ...]) -> list[BandCall]:
    """The calls that most bands make, one a step."""
    found: dict[int, BandCall] = {}
    for loop in sorted(loops, key=lambda loop: -loop.count):
        for part in loop.body:
            if isinstance(part, BandCall):
                found.setdefault(part.index, part)
    return list(found.values())


def _function_name(step: Step, program: Program) -> str:
    """`conv2d_s8_1x50x16`: operator, type and size of what it writes."""
    output = program.tensor(step.outputs[0])
    kind = "s8" if program.integer else "f32"
    return f"{step.op}_{kind}_{'x'.join(map(str, output.shape[-3:]))}"
