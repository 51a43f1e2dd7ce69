"""The normal form as a list of nodes, for rewrites that insert layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from ondevice_compiler.load.normal_form import LoadedModel
from ondevice_compiler.ops.operator import attributes_of, call, shape_of

INPUT = "x"


@dataclass(frozen=True)
class Node:
    """One call of one of our operators.

    Attributes:
        name: Unique.
        op: Without the prefix.
        inputs: Names of nodes and parameters, or `INPUT`.
        attributes: Of the call.
        shape: [1, H, W, C] of what it gives.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()

    @property
    def layer(self) -> str:
        """Name of the layer whose weight it reads."""
        return self.inputs[1].removesuffix(".weight")


@dataclass(frozen=True)
class Graph:
    """Nodes in order, and the name of the one that is the output."""

    nodes: tuple[Node, ...]
    output: str
    input_shape: tuple[int, ...]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a node's output, or of the input."""
        if name == INPUT:
            return self.input_shape
        return next(node.shape for node in self.nodes if node.name == name)

    def readers(self, name: str) -> list[Node]:
        """Nodes that read `name`."""
        return [node for node in self.nodes if name in node.inputs]


def graph_of(loaded: LoadedModel) -> Graph:
    """The nodes of a model in normal form."""
    main = loaded.module["main"]
    names = {main.params[0]: INPUT}
    names.update(zip(main.params[1:], loaded.parameters, strict=True))
    nodes: list[Node] = []
    for block in main.body.blocks:
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Var):
                names[binding.var] = names[value]
                continue
            name = f"v{len(nodes)}"
            names[binding.var] = name
            op = value.op.name.removeprefix("ondevice.")
            inputs = tuple(names[argument] for argument in value.args)
            nodes.append(Node(name, op, inputs, attributes_of(value), shape_of(binding.var)))
    return Graph(tuple(nodes), names[main.body.body], shape_of(main.params[0]))


def with_nodes(
    loaded: LoadedModel,
    nodes: Sequence[Node],
    output: str,
    parameters: Mapping[str, NDArray[np.float32]],
    inserted: Sequence[str],
    frozen: Iterable[str] = (),
) -> LoadedModel:
    """The model with other nodes.

    Args:
        loaded: Where they come from.
        nodes: In order of dependency.
        output: Name of the node that is the output.
        parameters: Values of every parameter that a node reads.
        inserted: Layers that are new.
        frozen: Their parameters that are never trained.
    """
    used = dict.fromkeys(name for node in nodes for name in node.inputs if name in parameters)
    values = {name: np.ascontiguousarray(parameters[name], np.float32) for name in used}
    shape = shape_of(loaded.module["main"].params[0])
    found: dict[str, Any] = {INPUT: relax.Var(INPUT, relax.TensorType(shape, "float32"))}
    for name, value in values.items():
        found[name] = relax.Var(name, relax.TensorType(value.shape, "float32"))
    builder = relax.BlockBuilder()
    parameters_ = list(found.values())
    with builder.function("main"):
        with builder.dataflow():
            for node in nodes:
                plain = {k: list(v) if type(v) is tuple else v for k, v in node.attributes.items()}
                arguments = [found[name] for name in node.inputs]
                found[node.name] = builder.emit(call(node.op, *arguments, **plain))
            result = builder.emit_output(found[output])
        builder.emit_func_output(result, params=parameters_)
    return replace(
        loaded,
        module=builder.get(),
        parameters=values,
        inserted=(*loaded.inserted, *inserted),
        frozen=loaded.frozen.union(frozen),
    )
