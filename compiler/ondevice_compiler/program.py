"""The program between autodiff and emission: tensors, and a linear list of steps on them.

Every stage after autodiff takes one `Program` and returns another, so that each can be printed
(`ondevice compile --stop-after STAGE`) and tested alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal[
    "input",
    "label",
    "parameter",
    "activation",
    "gradient",
    "mask",
    "statistic",
    "state",
    "constant",
]
Phase = Literal["forward", "loss", "backward", "update", "apply"]

BYTES = {"int8": 1, "uint8": 1, "int16": 2, "int32": 4, "uint32": 4, "float32": 4}


@dataclass(frozen=True)
class Quantization:
    """Affine map of a tensor: real = scale * (integer - zero_point).

    Attributes:
        scale: One scale, or one for each entry of the channel axis (first axis of a weight,
            the only axis of a bias, last axis of a gradient's fold).
        zero_point: Integer that stands for 0; 0 for weights, biases and gradients.
    """

    scale: tuple[float, ...]
    zero_point: int = 0

    @property
    def scales(self) -> NDArray[np.float64]:
        """The scales as an array."""
        return np.asarray(self.scale, dtype=np.float64)


@dataclass(frozen=True)
class Part:
    """Which channels of a weight a tensor holds; another tensor holds the rest.

    Attributes:
        axis: Of the weight: 3 (input channels), or 0 (a depthwise weight's own).
        channels: Held here, ascending.
        extent: Channels of the whole weight.
    """

    axis: int
    channels: tuple[int, ...]
    extent: int


@dataclass(frozen=True)
class Tensor:
    """One tensor of the program.

    Attributes:
        name: Unique in the program; parameters keep the name they have in the user's model.
        shape: In memory order, slowest axis first (feature maps: N, H, W, C; N is 1).
        dtype: Element type.
        kind: What it is for; decides where it lives (arena, RAM, flash).
        quantization: How integers map to real numbers; None for float32 and bit masks.
        trainable: A parameter (or optimiser state) that the step changes: lives in RAM.
        part: Of a weight that is trained in part: the channels held here.
        view_of: Name of the tensor whose bytes this one is part of, itself no view; None: it has
            its own.
        offset_bytes: Of a view, from the first byte of `view_of`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: Kind
    quantization: Quantization | None = None
    trainable: bool = False
    part: Part | None = None
    view_of: str | None = None
    offset_bytes: int = 0

    @property
    def elements(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return self.elements * BYTES[self.dtype]


@dataclass(frozen=True)
class Step:
    """One kernel call.

    Attributes:
        name: Unique, for people: "backward/conv1.dx".
        op: Key into the table of operators (`ops.OPERATORS`).
        inputs: Names of the tensors read.
        outputs: Names of the tensors written; a name that is also an input is updated in place.
        attributes: Operator-specific constants (strides, clip bounds, ...).
        phase: Part of the training step.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    phase: Phase = "forward"

    def with_attributes(self, **changes: Any) -> Step:
        """The same step with some attributes set."""
        return replace(self, attributes=MappingProxyType({**self.attributes, **changes}))


@dataclass(frozen=True)
class Strip:
    """A run of forward steps that is executed band by band of rows (strips.py).

    Attributes:
        first, last: Indices of its steps in the program, both included.
        rows: Rows of the last step's map that one band computes.
    """

    first: int
    last: int
    rows: int


@dataclass(frozen=True)
class Program:
    """Tensors and steps of one model.

    Attributes:
        name: Of the model.
        tensors: By name.
        steps: In the order in which they run.
        values: Initial values of parameters and constants, in the tensor's dtype and shape.
        input: Name of the input tensor.
        label: Name of the label tensor.
        output: Name of the tensor with the logits or the prediction.
        loss: "cross_entropy", "binary_cross_entropy" or "mse".
        gradients: Trainable parameter -> tensor that holds its gradient (empty once updates
            have been fused).
        inserted: Layers that the update scheme added to the model.
        strips: Runs of steps that are executed band by band, in order; none overlaps another.
    """

    name: str
    tensors: Mapping[str, Tensor]
    steps: tuple[Step, ...]
    values: Mapping[str, NDArray[Any]]
    input: str
    label: str
    output: str
    loss: str
    gradients: Mapping[str, str] = field(default_factory=dict)
    inserted: tuple[str, ...] = ()
    strips: tuple[Strip, ...] = ()

    @property
    def integer(self) -> bool:
        """Whether it computes in int8, with gradients relative to the step's own unit."""
        return any(step.op == "quantize_error" for step in self.steps)

    def tensor(self, name: str) -> Tensor:
        """The tensor called `name`."""
        return self.tensors[name]

    def storage(self, name: str) -> tuple[str, int]:
        """The tensor whose bytes `name` lies in (itself, unless it is a view), and where in it."""
        tensor = self.tensors[name]
        return tensor.view_of or name, tensor.offset_bytes

    def producer(self, name: str) -> Step | None:
        """The first step that writes `name`."""
        return next((step for step in self.steps if name in step.outputs), None)

    def consumers(self, name: str) -> list[Step]:
        """The steps that read `name`."""
        return [step for step in self.steps if name in step.inputs]

    def __str__(self) -> str:
        """A listing: one line a step."""
        lines = [f"program {self.name}: loss {self.loss}, input {self.input}, output {self.output}"]
        for tensor in self.tensors.values():
            if tensor.kind in ("parameter", "input", "label", "state"):
                trained = " trainable" if tensor.trainable else ""
                lines.append(f"  {tensor.kind} {describe(tensor)}{trained}")
        for index, step in enumerate(self.steps):
            outputs = ", ".join(describe(self.tensors[name]) for name in step.outputs)
            shown = {k: v for k, v in step.attributes.items() if k != "w_scale"}
            extra = f" {shown}" if shown else ""
            inputs = ", ".join(step.inputs)
            lines.append(f"  {index:3d} {step.phase:8s} {outputs} = {step.op}({inputs}){extra}")
        for tensor in self.tensors.values():
            if tensor.view_of is not None:
                place = f"{tensor.view_of} at byte {tensor.offset_bytes}"
                lines.append(f"  view {describe(tensor)} of {place}")
        for strip in self.strips:
            rows = f"{strip.rows} rows a band"
            lines.append(f"  steps {strip.first} to {strip.last} band by band: {rows}")
        return "\n".join(lines)


def describe(tensor: Tensor) -> str:
    """`name: dtype[shape]`, as printed in listings and errors."""
    return f"{tensor.name}: {tensor.dtype}[{','.join(map(str, tensor.shape))}]"


def prune(program: Program, wanted: Iterable[str]) -> Program:
    """Removes every step that no tensor in `wanted` depends on, and tensors nobody mentions.

    Args:
        program: Steps in dependency order.
        wanted: Tensors to keep.

    Returns:
        The program with the needed steps, in the same order.
    """
    needed = set(wanted)
    kept: list[Step] = []
    for step in reversed(program.steps):
        if needed.intersection(step.outputs):
            needed.update(program.storage(name)[0] for name in step.inputs)
            kept.append(step)
    steps = tuple(reversed(kept))
    used = {name for step in steps for name in (*step.inputs, *step.outputs)}
    used |= {program.storage(name)[0] for step in steps for name in step.inputs}
    used |= {program.input, program.label, program.output}
    return replace(
        program,
        steps=steps,
        tensors={name: tensor for name, tensor in program.tensors.items() if name in used},
        values={name: value for name, value in program.values.items() if name in used},
    )
