"""A fresh last layer for another task: transfer learning on any loaded model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ondevice_compiler.errors import UserError
from ondevice_compiler.load.graph import Graph, Node, graph_of, with_nodes
from ondevice_compiler.load.normal_form import LoadedModel

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
    graph = graph_of(loaded)
    head = _head_of(loaded, graph)
    weight, bias = head.inputs[1:3]
    inputs = (*loaded.parameters[weight].shape[1:3], graph.shape(head.inputs[0])[3])
    bound = 1.0 / np.sqrt(np.prod(inputs))
    generator = np.random.default_rng(0)
    values = dict(loaded.parameters)
    values[weight] = generator.uniform(-bound, bound, (outputs, *inputs)).astype("f4")
    values[bias] = np.zeros(outputs, np.float32)
    first = graph.nodes.index(head)
    nodes = list(graph.nodes)
    for index, node in enumerate(nodes[first:], start=first):
        attributes = {k: v for k, v in node.attributes.items() if k not in KEPT}
        if node is head:
            attributes["groups"] = 1
        nodes[index] = replace(node, attributes=attributes)
    changed = with_nodes(loaded, nodes, graph.output, values, inserted=())
    layer = weight.rpartition(".")[0]
    return replace(
        changed,
        frozen=loaded.frozen - {weight, bias},
        batch_norms={name: norm for name, norm in loaded.batch_norms.items() if name != layer},
    )


def _head_of(loaded: LoadedModel, graph: Graph) -> Node:
    """The node of the last layer, with nothing but pools and clips behind it."""
    nodes = {node.name: node for node in graph.nodes}
    node = nodes.get(graph.output)
    while True:
        op = "the input" if node is None else node.op
        if node is not None and op == "conv2d":
            return node
        if node is None or op not in BEHIND_HEAD:
            raise UserError(
                f"{loaded.source}: head: the model ends in {op}; allowed: a linear or "
                "convolution layer, which is what a new head replaces"
            )
        node = nodes.get(node.inputs[0])
