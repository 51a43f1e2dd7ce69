"""The distinct workloads of a program, each with a step to measure it on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import log2, prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.measure.task import KernelSource, Task, lowered_kernel
from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.lower import kernel_steps, lower
from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.program import Program, Step, Tensor
from ondevice_compiler.tiling.database import Entry
from ondevice_compiler.tiling.tile import Choose, Tile, Workload, candidates, default_tile

GRADIENT_DEVIATION, WEIGHT_DEVIATION, STORED_DEVIATION = 25.0, 40.0, 40.0
RATE = 1e-6


@dataclass(frozen=True)
class TuningTask:
    """One workload.

    Attributes:
        workload: What is tuned.
        task: A step whose kernel has it, with operands.
        tiles: The search space; the first is the one that is used where nothing was measured.
        known: The best of an earlier search, which is measured again; None: there was none.
    """

    workload: Workload
    task: Task
    tiles: tuple[Tile, ...]
    known: Tile | None = None

    def kernel(self, tile: Tile, others: Choose = default_tile) -> KernelSource:
        """The step's kernel with a tile for this workload.

        Args:
            tile: Of `tiles`.
            others: Chooses the tiles of whatever else the kernel has.
        """

        def choose(workload: Workload) -> Tile:
            return tile if workload.text == self.workload.text else others(workload)

        return lowered_kernel(self.task, lower(self.task.program, tiles=choose))


def tuning_tasks(
    programs: Iterable[Program], known: Mapping[str, Entry] = MappingProxyType({})
) -> list[TuningTask]:
    """Every workload of the programs that leaves a choice, in the order of first use.

    Args:
        programs: Planned.
        known: A tuning database, by workload.
    """
    found: dict[str, TuningTask] = {}
    for program in programs:
        for step, shaped in kernel_steps(program):
            for workload in _workloads(step, shaped):
                tiles = _space(workload)
                if len(tiles) > 1 and workload.text not in found:
                    entry = known.get(workload.text)
                    best = entry.tile if entry is not None and entry.tile in tiles else None
                    task = _task(step, shaped)
                    found[workload.text] = TuningTask(workload, task, tiles, best)
    return list(found.values())


def _workloads(step: Step, program: Program) -> list[Workload]:
    asked: list[Workload] = []

    def record(workload: Workload) -> Tile:
        asked.append(workload)
        return default_tile(workload)

    OPERATORS[step.op].lower(builder := KernelBuilder("asked", tiles=record), step, program)
    builder.finish()
    return asked


def _space(workload: Workload) -> tuple[Tile, ...]:
    first = default_tile(workload)
    return (first, *(tile for tile in candidates(workload) if tile != first))


def _task(step: Step, program: Program) -> Task:
    """The step alone, with operands as they are in the middle of training."""
    names = dict.fromkeys((*step.inputs, *step.outputs))
    if "parameter" in step.attributes:
        names[step.attributes["parameter"]] = None
    tensors = {n: replace(program.tensor(n), view_of=None, offset_bytes=0) for n in names}
    alone = Program(step.name, tensors, (step,), {}, step.inputs[0], "", step.outputs[0], "mse")
    seed = int.from_bytes(hashlib.sha256(step.name.encode()).digest()[:4], "little")
    random = np.random.default_rng(seed)
    values = {n: _content(t, program.values, random) for n, t in tensors.items()}
    exponents = {n: 0 for n, t in tensors.items() if t.kind == "gradient" and t.dtype == "int8"}
    for name in step.outputs:
        if name in exponents:
            exponents[name] = _exponent(step, tensors)
    macs = OPERATORS[step.op].macs(step, alone)
    return Task(step.name, alone, values, exponents, RATE, macs)


def _content(
    tensor: Tensor, known: Mapping[str, NDArray[Any]], random: np.random.Generator
) -> NDArray[Any]:
    if tensor.name in known and known[tensor.name].shape == tensor.shape:
        return known[tensor.name].astype(tensor.dtype)
    if tensor.kind == "gradient" and tensor.dtype == "int8":
        drawn = np.rint(random.normal(0, GRADIENT_DEVIATION, tensor.shape))
        return np.clip(drawn, -127, 127).astype(tensor.dtype)
    if tensor.dtype == "float32":
        return random.normal(0, 1, tensor.shape).astype(np.float32)
    low, high = {"int8": (-128, 128), "uint8": (0, 256)}.get(tensor.dtype, (-(2**14), 2**14))
    return random.integers(low, high, tensor.shape).astype(tensor.dtype)


def _exponent(step: Step, tensors: Mapping[str, Tensor]) -> int:
    """Of the gradient that a step stores, such that it is neither 0 nor saturated everywhere."""
    output = tensors[step.outputs[0]]
    fold = 1.0 if output.quantization is None else float(np.mean(output.quantization.scales))
    products = 1.0
    if len(step.inputs) > 1 and tensors[step.inputs[1]].kind == "parameter":
        shape = tensors[step.inputs[1]].shape
        products = prod(shape[:3]) / step.attributes.get("groups", 1)
        fold *= WEIGHT_DEVIATION
    deviation = GRADIENT_DEVIATION * max(products, 1.0) ** 0.5 * fold
    return round(log2(deviation / STORED_DEVIATION))
