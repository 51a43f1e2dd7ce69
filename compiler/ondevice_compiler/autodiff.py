"""Forward function -> joint program: forward, error of the loss, backward.

The derivative is Relax's own reverse-mode `Gradient`; the rules of our operators are registered in
`ops/`. What comes out is one float32 `Program` with a gradient for every parameter; `scheme` then
keeps the wanted ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import tvm
from tvm import relax

from ondevice_compiler.errors import UserError
from ondevice_compiler.load.normal_form import LoadedModel
from ondevice_compiler.ops.gradient_store import LAYER_DX
from ondevice_compiler.ops.operator import attributes_of, call, shape_of
from ondevice_compiler.program import Kind, Phase, Program, Step, Tensor

Loss = Literal["cross_entropy", "binary_cross_entropy", "mse"]
LABEL = "label"
_ADJOINT = re.compile(r"(.*)_adjoint\d*")  # how Relax names the gradient of a variable
INPUT = "input"
NAMED_AFTER_PARAMETER = ("conv2d", "conv2d_transpose", "group_norm", "embedding", "position")
# Gradients of a layer that read an output gradient with the layer's weight scale folded in.
FOLDED = ("conv2d_dw", "conv2d_transpose_dw", "bias_gradient")


@dataclass(frozen=True)
class Joint:
    """The differentiated model.

    Attributes:
        module: Relax module whose `step(x, label, *parameters)` returns every tensor of
            `program` that is an activation or a gradient, for calibration.
        outputs: Names of those tensors, in order.
        program: The same computation as a list of steps.
        loaded: The model it came from.
    """

    module: tvm.IRModule
    outputs: tuple[str, ...]
    program: Program
    loaded: LoadedModel


def differentiate(
    loaded: LoadedModel, loss: Loss, name: str, label_smoothing: float = 0.0
) -> Joint:
    """Appends the loss and differentiates with respect to every parameter.

    Args:
        loaded: Model in normal form.
        loss: Cross entropy of logits [1, 1, 1, classes] with a class index, or the binary cross
            entropy or mean squared error of any output with a target of its shape.
        name: Of the program.
        label_smoothing: Share of the target that cross entropy spreads over all classes.

    Raises:
        UserError: Cross entropy of an output that is no vector.
    """
    joint = _joint_function(loaded, loss, label_smoothing)
    program = _program(joint, loaded, loss, name)
    module, outputs = _with_all_outputs(joint, program)
    return Joint(module, outputs, program.program, loaded)


def _joint_function(loaded: LoadedModel, loss: Loss, label_smoothing: float) -> Any:
    main = loaded.module["main"]
    output_shape = tuple(int(v) for v in main.ret_ty.shape.values)
    if loss == "cross_entropy":
        if output_shape[:3] != (1, 1, 1):
            raise UserError(
                f"{loaded.source}: cross entropy needs one logit per class; the output is a map of "
                f"{output_shape[1]} x {output_shape[2]} x {output_shape[3]}; use --loss mse or "
                "pool it first"
            )
        label_type = relax.TensorType((1,), "int32")
    else:
        label_type = relax.TensorType(output_shape, "float32")
    label = relax.Var(LABEL, label_type)
    builder = relax.BlockBuilder()
    variables = [relax.Var(p.name, p.ty) for p in main.params]
    mapping = dict(zip(main.params, variables, strict=True))
    with builder.function("main", [variables[0], label, *variables[1:]]):
        with builder.dataflow():
            for block in main.body.blocks:
                for binding in block.bindings:
                    value = binding.value
                    if isinstance(value, relax.Var):
                        mapping[binding.var] = mapping[value]
                        continue
                    arguments = [mapping[argument] for argument in value.args]
                    # A name of its own, so that its adjoint can be told from partial sums.
                    moved = relax.Call(value.op, arguments, value.attrs)
                    mapping[binding.var] = builder.emit(moved, f"forward{len(mapping)}_")
            logits = mapping[main.body.body]
            attributes = {"smoothing": label_smoothing} if label_smoothing else {}
            scalar = builder.emit_output(call(loss, logits, label, **attributes))
        builder.emit_func_output(scalar)
    parameters = zip(variables[1:], loaded.parameters, strict=True)
    trained = [variable for variable, name in parameters if name not in loaded.frozen]
    module = relax.transform.Gradient("main", require_grads=trained)(builder.get())
    return module["main_adjoint"]


@dataclass(frozen=True)
class _Converted:
    program: Program
    names: dict[Any, str]


def _program(joint: Any, loaded: LoadedModel, loss: Loss, name: str) -> _Converted:
    tensors: dict[str, Tensor] = {}
    names: dict[Any, str] = {}
    forward: dict[str, str] = {}  # Relax variable name -> tensor name
    steps: list[Step] = []

    def declare(wanted: str, shape: tuple[int, ...], dtype: str, kind: Any, **more: Any) -> str:
        unique, copies = wanted, 1
        while unique in tensors:
            copies += 1
            unique = f"{wanted}.{copies}"
        tensors[unique] = Tensor(unique, shape, dtype, kind, **more)
        return unique

    x, label, *parameters = joint.params
    names[x] = declare(INPUT, shape_of(x), str(x.ty.dtype), "input")
    label_dtype = "uint32" if loss == "cross_entropy" else "float32"
    names[label] = declare(LABEL, shape_of(label), label_dtype, "label")
    for variable, key in zip(parameters, loaded.parameters, strict=True):
        names[variable] = declare(key, shape_of(variable), "float32", "parameter")

    owners = _gradient_owners(joint, loaded)
    output = ""
    for block in joint.body.blocks:
        for binding in block.bindings:
            value, variable = binding.value, binding.var
            if isinstance(value, relax.Var):
                if value in names:
                    names[variable] = names[value]
                continue
            op = getattr(value.op, "name", "") if isinstance(value, tvm.ir.Call) else ""
            if op == f"ondevice.{loss}":
                output = names[value.args[0]]
                continue
            if op == "relax.add":
                op = "ondevice.add_gradient"
            if not op.startswith("ondevice."):
                continue
            op = op.removeprefix("ondevice.")
            inputs = tuple(names[argument] for argument in value.args)
            attributes = attributes_of(value) if op != "add_gradient" else {}
            adjoint = _ADJOINT.fullmatch(variable.name)
            phase: Phase
            kind: Kind
            if op.endswith("_error"):
                phase, kind = "loss", "gradient"
                wanted = f"d.{output}"
            elif op == "max_pool2d_argmax":
                phase, kind, wanted = "forward", "mask", f"{inputs[1]}.argmax"
            elif op == "group_norm_statistics":
                phase, kind, wanted = "backward", "statistic", f"{inputs[0]}.statistics"
            elif adjoint or op.endswith(("_dx", "_dw", "_gradient")):
                phase, kind = "backward", "gradient"
                of = forward.get(adjoint.group(1)) if adjoint else None
                wanted = f"d.{of or 'partial'}"
                if variable in owners:
                    wanted = f"d.{owners[variable]}"
                if op in FOLDED:
                    layer = owners[variable].rpartition(".")[0]
                    attributes["weight"] = f"{layer}.weight"
            else:
                phase, kind = "forward", "activation"
                wanted = _activation_name(op, inputs, steps)
            written = declare(wanted, shape_of(variable), "float32", kind)
            names[variable] = written
            if phase == "forward" and kind == "activation":
                forward[variable.name] = written
            if op in LAYER_DX:
                attributes["weight"] = inputs[1]
            steps.append(
                Step(
                    f"{phase}/{written}",
                    op,
                    inputs,
                    (written,),
                    MappingProxyType(attributes),
                    phase,
                )
            )
    gradients = {}
    for key, gradient in zip(_trained(loaded), joint.body.body.fields[1].fields, strict=True):
        if gradient in names:
            gradients[key] = names[gradient]
    program = Program(
        name=name,
        tensors=tensors,
        steps=tuple(_hoisted(steps)),
        values=dict(loaded.parameters),
        input=INPUT,
        label=LABEL,
        output=output,
        loss=loss,
        gradients=gradients,
        inserted=loaded.inserted,
    )
    return _Converted(program, names)


def _gradient_owners(joint: Any, loaded: LoadedModel) -> dict[Any, str]:
    """Relax variable of a parameter's gradient -> the parameter.

    The output gradient cannot tell: both branches of an addition share one.
    """
    owners = dict(zip(joint.body.body.fields[1].fields, _trained(loaded), strict=True))
    for block in reversed(joint.body.blocks):
        for binding in reversed(block.bindings):
            if isinstance(binding.value, relax.Var) and binding.var in owners:
                owners[binding.value] = owners[binding.var]
    return owners


def _trained(loaded: LoadedModel) -> list[str]:
    return [name for name in loaded.parameters if name not in loaded.frozen]


def _activation_name(op: str, inputs: tuple[str, ...], steps: list[Step]) -> str:
    if op in NAMED_AFTER_PARAMETER:
        return inputs[1].removesuffix(".weight")
    if op == "clip":
        return f"{inputs[0]}.relu"
    return f"{op.removesuffix('2d')}{sum(step.op == op for step in steps) + 1}"


def _hoisted(steps: list[Step]) -> list[Step]:
    """Moves forward steps that autodiff introduced (argmax) behind what they read."""
    forward = [step for step in steps if step.phase == "forward"]
    ordered: list[Step] = []
    late = [step for step in forward if step.op == "max_pool2d_argmax"]
    for step in forward:
        if step.op == "max_pool2d_argmax":
            continue
        ordered.append(step)
        ordered += [argmax for argmax in late if argmax.inputs[1] in step.outputs]
    return ordered + [step for step in steps if step.phase != "forward"]


def _with_all_outputs(joint: Any, converted: _Converted) -> tuple[tvm.IRModule, tuple[str, ...]]:
    """The joint function returning every tensor that a step writes."""
    written = {name for step in converted.program.steps for name in step.outputs}
    builder = relax.BlockBuilder()
    outputs: list[str] = []
    results: list[Any] = []
    with builder.function("step", list(joint.params)):
        with builder.dataflow():
            mapping: dict[Any, Any] = {p: p for p in joint.params}
            for block in joint.body.blocks:
                for binding in block.bindings:
                    value = binding.value
                    if isinstance(value, relax.Var):
                        mapping[binding.var] = mapping.get(value)
                        continue
                    name = converted.names.get(binding.var)
                    if name is None or not isinstance(value, tvm.ir.Call):
                        continue
                    arguments = [mapping[argument] for argument in value.args]
                    emitted = builder.emit(relax.Call(value.op, arguments, value.attrs))
                    mapping[binding.var] = emitted
                    if name in written and name not in outputs:
                        outputs.append(name)
                        results.append(emitted)
            final = [builder.emit_output(result) for result in results]
        builder.emit_func_output(relax.Tuple(final))
    return builder.get(), tuple(outputs)
