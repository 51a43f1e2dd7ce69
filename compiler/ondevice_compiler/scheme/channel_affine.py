"""Scheme `bn`: a scale and a shift for each channel after the convolutions, trained alone.

A batch norm that was folded on import is taken out again: its statistics stay in the convolution,
gamma and beta become a depthwise 1x1 convolution after it. Where the file no longer has batch
norms, every convolution but the last gets an identity.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UserError
from ondevice_compiler.load.batch_norm import BatchNorm
from ondevice_compiler.load.graph import Node, graph_of, with_nodes
from ondevice_compiler.load.normal_form import LoadedModel

OUTPUT_SCALE = ("y_scale", "y_zero")  # Fixed by an int8 file for what a node writes.


def with_affine(loaded: LoadedModel) -> LoadedModel:
    """Inserts the channel affines.

    Raises:
        UserError: The model has no convolution but the last layer.
    """
    graph = graph_of(loaded)
    layers = [
        node for node in graph.nodes if node.op == "conv2d" and node.inputs[1] not in loaded.frozen
    ][:-1]
    chosen = [node for node in layers if node.layer in loaded.batch_norms] or layers
    if not chosen:
        raise UserError(
            f"scheme bn: {loaded.source} has no convolution before its last layer; allowed: last"
        )
    values: dict[str, NDArray[np.float32]] = dict(loaded.parameters)
    nodes: list[Node] = []
    inserted = []
    for node in graph.nodes:
        if node not in chosen:
            nodes.append(node)
            continue
        norm = loaded.batch_norms.get(node.layer) or _identity(node, values)
        name = _new_name(norm.name or f"{node.layer}.norm", values)
        values[node.inputs[1]], values[node.inputs[2]] = norm.weight, norm.bias
        values[f"{name}.weight"] = norm.gamma.reshape(-1, 1, 1, 1)
        values[f"{name}.bias"] = norm.beta
        inserted.append(name)
        inner = {k: v for k, v in node.attributes.items() if k not in OUTPUT_SCALE}
        outer = {k: v for k, v in node.attributes.items() if k in OUTPUT_SCALE}
        outer |= {"stride": (1, 1), "padding": (0, 0, 0, 0), "groups": len(norm.beta)}
        convolution = replace(node, name=f"{node.name}.plain", attributes=inner)
        inputs = (convolution.name, f"{name}.weight", f"{name}.bias")
        nodes += [convolution, replace(node, inputs=inputs, attributes=outer)]
    return with_nodes(loaded, nodes, graph.output, values, inserted)


def _identity(node: Node, values: dict[str, NDArray[np.float32]]) -> BatchNorm:
    weight, bias = values[node.inputs[1]], values[node.inputs[2]]
    return BatchNorm("", np.ones_like(bias), np.zeros_like(bias), weight, bias)


def _new_name(wanted: str, values: dict[str, NDArray[np.float32]]) -> str:
    name, copies = wanted, 1
    while f"{name}.weight" in values:
        copies += 1
        name = f"{wanted}_{copies}"
    return name
