"""A fresh last layer for another task: transfer learning on any loaded model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from tvm import relax

from ondevice_compiler.errors import UserError
from ondevice_compiler.load.normal_form import LoadedModel
from ondevice_compiler.ops.operator import attributes_of, call, shape_of

BEHIND_HEAD = ("avg_pool2d", "max_pool2d", "clip")  # What may follow the last layer.
KEPT = ("w_scale", "y_scale", "y_zero")  # Scales of the old layer in its file.


def replace_head(loaded: LoadedModel, outputs: int) -> LoadedModel:
    """Replaces the last linear or convolution layer by one with `outputs` outputs.

    The new weights are uniform in +-1 / sqrt(inputs), as in PyTorch, from a fixed seed, so that
    gradients reach the layers before it from the first step; the bias is 0.

    Args:
        loaded: Model in normal form.
        outputs: Number of outputs, at least 1.

    Raises:
        UserError: The model does not end in such a layer.
    """
    main = loaded.module["main"]
    head = _head_of(loaded)
    weight, bias = head.args[1], head.args[2]
    old = shape_of(weight)
    inputs = (*old[1:3], shape_of(head.args[0])[3])
    bound = 1.0 / np.sqrt(np.prod(inputs))
    generator = np.random.default_rng(0)
    values = dict(loaded.parameters)
    values[weight.name] = generator.uniform(-bound, bound, (outputs, *inputs)).astype("f4")
    values[bias.name] = np.zeros(outputs, np.float32)

    variables = [
        relax.Var(p.name, relax.TensorType(values[p.name].shape, "float32"))
        for p in main.params[1:]
    ]
    x = relax.Var(main.params[0].name, main.params[0].ty)
    mapping: dict[Any, Any] = dict(zip(main.params, [x, *variables], strict=True))
    builder = relax.BlockBuilder()
    behind = False
    with builder.function("main"):
        with builder.dataflow():
            for block in main.body.blocks:
                for binding in block.bindings:
                    node = binding.value
                    if isinstance(node, relax.Var):
                        mapping[binding.var] = mapping[node]
                        continue
                    arguments = [mapping[argument] for argument in node.args]
                    attributes = attributes_of(node)
                    if node.same_as(head):
                        behind, attributes["groups"] = True, 1
                    if behind:
                        attributes = {k: v for k, v in attributes.items() if k not in KEPT}
                    name = node.op.name.removeprefix("ondevice.")
                    listed = {k: list(v) if type(v) is tuple else v for k, v in attributes.items()}
                    mapping[binding.var] = builder.emit(call(name, *arguments, **listed))
            result = builder.emit_output(mapping[main.body.body])
        builder.emit_func_output(result, params=[x, *variables])
    layer = weight.name.rpartition(".")[0]
    return replace(
        loaded,
        module=builder.get(),
        parameters=values,
        frozen=loaded.frozen - {weight.name, bias.name},
        batch_norms={name: norm for name, norm in loaded.batch_norms.items() if name != layer},
    )


def _head_of(loaded: LoadedModel) -> Any:
    """The call of the last layer, with nothing but pools and clips behind it."""
    main = loaded.module["main"]
    values = {b.var: b.value for block in main.body.blocks for b in block.bindings}
    node = values[main.body.body]
    while True:
        if isinstance(node, relax.Var):
            node = values.get(node)
            continue
        name = node.op.name.removeprefix("ondevice.") if node is not None else "the input"
        if name == "conv2d":
            return node
        if name not in BEHIND_HEAD:
            raise UserError(
                f"{loaded.source}: head: the model ends in {name}; allowed: a linear or "
                "convolution layer, which is what a new head replaces"
            )
        node = values.get(node.args[0])
