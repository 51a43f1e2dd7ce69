"""Copy of some channels of a feature map: all that backward needs for a weight trained in part."""

from __future__ import annotations

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.operator import Operator, same_quantization
from ondevice_compiler.ops.split_weight import channel_index
from ondevice_compiler.program import Program, Step


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y[..., n] = x[..., channels[n]]."""
    x_tensor, y_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    x = k.tensor("x", x_tensor)
    channel = channel_index(k, "channels", step.attributes["channels"])
    y = k.tensor("y", y_tensor, written=True)
    k.store(axes_of(y_tensor), lambda n, h, w, c: [(y, x[n, h, w, channel(c)], (n, h, w, c))])


OPERATOR = Operator(lower, output_quantization=same_quantization)
