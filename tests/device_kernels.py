"""One kernel with the DSP instructions and without them, in QEMU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from naive import naive_kernel

from ondevice.measure.bench import Bench, Measurement
from ondevice.measure.task import Task, lowered_kernel


def trained(task: Task) -> Task:
    """The same layer with a weight in RAM."""
    weight = replace(task.program.tensor("w"), dtype="int16", trainable=True)
    program = replace(task.program, tensors={**task.program.tensors, "w": weight})
    values = {**task.values, "w": task.values["w"].astype(np.int16) * 256 + 128}
    return replace(task, program=program, values=values)


def with_and_without_vectors(
    bench: Bench, task: Task, intrinsic: str
) -> tuple[Measurement, Measurement]:
    """What the task's kernel gives in both forms; that they write the same is asserted."""
    vectors = lowered_kernel(task)
    assert intrinsic in vectors.definitions
    portable = replace(vectors, definitions=f"#undef __ARM_FEATURE_DSP\n{vectors.definitions}")
    fast, slow = bench.measure(task, vectors), bench.measure(task, portable)
    assert fast.checksum == slow.checksum
    return fast, slow


def assert_plain_loops_write_the_same(bench: Bench, task: Task, found: Measurement) -> None:
    """Compares with benchmarks/naive.c."""
    plain = naive_kernel(task)
    assert plain is not None
    assert bench.measure(task, plain).checksum == found.checksum
