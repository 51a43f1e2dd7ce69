"""What the compiler knows of an operator, and the bridge from Relax to its kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm import ir, relax

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.program import Program, Quantization, Step, Tensor

QuantizeParameters = Callable[
    [Step, dict[str, Tensor], dict[str, NDArray[Any]], float], None
]  # (step, tensors, values, headroom of the scale): replaces the step's parameters


@dataclass(frozen=True)
class Operator:
    """One operator of the program.

    Attributes:
        lower: Adds the step's parameters and blocks to the builder.
        macs: Multiply-accumulates of the step.
        output_quantization: Of an int8 activation that the step writes, from those of its inputs;
            None, or a function that gives None: from the calibrated range.
        quantize_parameters: Integer form of the step's parameters; None: they stay float32.
    """

    lower: Callable[[KernelBuilder, Step, Program], None]
    macs: Callable[[Step, Program], int] = lambda step, program: 0
    output_quantization: Callable[[Step, Mapping[str, Tensor]], Quantization | None] | None = None
    quantize_parameters: QuantizeParameters | None = None


def same_quantization(step: Step, tensors: Mapping[str, Tensor]) -> Quantization | None:
    """The output holds values of the first input, unchanged."""
    return tensors[step.inputs[0]].quantization


def call(name: str, *arguments: Any, **attributes: Any) -> Any:
    """A Relax call of our operator `ondevice.NAME`."""
    attrs = ir.make_node("ir.DictAttrs", **attributes) if attributes else None
    return relax.Call(ir.Op.get(f"ondevice.{name}"), list(arguments), attrs)


def register(
    name: str,
    lower: Callable[[KernelBuilder, Step, Program], None],
    shape: Callable[..., tuple[int, ...]],
    gradient: Callable[..., list[Any]] | None = None,
) -> None:
    """Registers `ondevice.NAME` with Relax.

    Args:
        name: Without the prefix.
        lower: Builds the kernel; the Relax VM runs the same kernel in float32, so that
            calibration and the device share one definition.
        shape: Output shape from the Step's attributes and the input shapes.
        gradient: Called with (attributes, output gradient, output, *inputs); gives one gradient
            an input, None where there is none.
    """

    def infer(node: Any, context: Any) -> Any:
        shapes = [shape_of(argument) for argument in node.args]
        return relax.TensorType(shape(attributes_of(node), *shapes), "float32")

    def legalize(builder: Any, node: Any) -> Any:
        function = _float_kernel(name, lower, node)
        target = builder.add_func(function, name)
        return relax.call_tir(target, list(node.args), node.ty)

    full = f"ondevice.{name}"
    ir.register_op_attr(full, "FInferType", infer)
    ir.register_op_attr(full, "FPurity", True)
    ir.register_op_attr(full, "TScriptPrinterName", full)  # or printing warns
    ir.register_op_attr(full, "FLegalize", legalize)
    if gradient is not None:

        def primal_gradient(output: Any, node: Any, adjoint: Any, context: Any) -> list[Any]:
            found = gradient(attributes_of(node), adjoint, output, *node.args)
            return [
                relax.op.grad.no_grad(argument) if value is None else value
                for argument, value in zip(node.args, found, strict=True)
            ]

        ir.register_op_attr(full, "FPrimalGradient", primal_gradient)


def shape_of(expression: Any) -> tuple[int, ...]:
    """Static shape of a Relax tensor expression."""
    return tuple(int(extent) for extent in expression.ty.shape.values)


def attributes_of(node: Any) -> dict[str, Any]:
    """Attributes of one of our Relax calls as Python values."""
    if node.attrs is None:
        return {}
    return {str(key): _plain(node.attrs[key]) for key in node.attrs.keys()}  # noqa: SIM118


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | int | float):
        return value
    if hasattr(value, "value"):
        return value.value
    return tuple(_plain(item) for item in value)


def _float_kernel(name: str, lower: Any, node: Any) -> tvm.tirx.PrimFunc:
    """The kernel of a Relax call with scalars folded in and the tensors as only parameters."""
    inputs = [
        Tensor(f"x{index}", shape_of(argument), str(argument.ty.dtype), "activation")
        for index, argument in enumerate(node.args)
    ]
    output = Tensor("out", shape_of(node), "float32", "activation")
    tensors = {tensor.name: tensor for tensor in (*inputs, output)}
    step = Step(
        name=name,
        op=name,
        inputs=tuple(tensor.name for tensor in inputs),
        outputs=("out",),
        attributes=MappingProxyType(attributes_of(node)),
    )
    program = Program("legalize", tensors, (step,), {}, "x0", "x0", "out", "mse")
    builder = KernelBuilder(name, immediate=True)
    lower(builder, step, program)
    return builder.finish()
