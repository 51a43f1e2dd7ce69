"""Scheme `tinytl`: lite residual modules beside the frozen blocks.

Cai et al., TinyTL: Reduce Memory, Not Parameters for Efficient On-Device Learning (NeurIPS 2020).
A module sees its block's input at half the resolution and with few channels, so that training its
weights saves little:

    average pool 2x2 -> group convolution -> group norm -> ReLU -> 1x1 convolution -> group norm
    -> nearest upsample -> added to the block's output

The last norm's scale starts at 0: the network starts unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UserError
from ondevice_compiler.kernel_builder import LARGEST_FLOAT32
from ondevice_compiler.load.graph import Graph, Node, graph_of, with_nodes
from ondevice_compiler.load.normal_form import LoadedModel

REDUCTION = 6  # Expanded channels of the block to one of the module.
LEAST_CHANNELS = 4
NORM_CHANNELS = 8  # In a group of a norm, where the channels divide so.
EPSILON = 1e-5
ACTIVATIONS = ("clip", "lookup")


@dataclass(frozen=True)
class Block:
    """What a module runs beside.

    Attributes:
        source: Name of the block's input.
        last: Its last node, whose output the module's is added to.
        expanded: Channels inside the block.
    """

    source: str
    last: Node
    expanded: int


def with_lite_residuals(loaded: LoadedModel) -> LoadedModel:
    """Inserts a module beside every block.

    A block is an inverted bottleneck, from its input to its linear projection. In a network without
    any, it is a dense convolution that is neither the first nor the last layer.

    Raises:
        UserError: There is no such block.
    """
    graph = graph_of(loaded)
    layers = [node for node in graph.nodes if node.op == "conv2d"]
    blocks = [block for node in layers[1:] if (block := _bottleneck(graph, node))]
    if not blocks:
        dense = [node for node in layers[1:-1] if node.attributes["groups"] == 1]
        blocks = [Block(node.inputs[0], node, node.shape[3]) for node in dense]
    values: dict[str, NDArray[np.float32]] = dict(loaded.parameters)
    nodes = list(graph.nodes)
    inserted: list[str] = []
    for number, block in enumerate(blocks):
        module = _module(graph, block, f"lite{number}", values)
        if not module:
            continue
        inner = replace(block.last, name=f"{block.last.name}.block")
        total = Node(block.last.name, "add", (inner.name, module[-1].name), {}, inner.shape)
        place = nodes.index(block.last)
        nodes[place : place + 1] = [inner, *module, total]
        inserted += [f"lite{number}.{part}" for part in ("conv1", "norm1", "conv2", "norm2")]
    if not inserted:
        raise UserError(
            f"scheme tinytl: {loaded.source} has no inverted bottleneck, and no dense convolution "
            "between its first and last layer; allowed: bias, bn, last"
        )
    # A bias before a norm changes nothing.
    frozen = [f"{layer}.bias" for layer in inserted if "conv" in layer]
    return with_nodes(loaded, nodes, graph.output, values, inserted, frozen)


def _bottleneck(graph: Graph, first: Node) -> Block | None:
    """The inverted bottleneck that starts with a 1x1 expansion, if one does."""
    if first.attributes["groups"] != 1 or not _pointwise(first):
        return None
    depthwise = _next_layer(graph, first)
    if depthwise is None or depthwise.attributes["groups"] != first.shape[3]:
        return None
    last = _next_layer(graph, depthwise)
    if last is None or last.attributes["groups"] != 1 or not _pointwise(last):
        return None
    linear = all(reader.op not in ACTIVATIONS for reader in graph.readers(last.name))
    expands = first.shape[3] > graph.shape(first.inputs[0])[3]
    return Block(first.inputs[0], last, first.shape[3]) if linear and expands else None


def _next_layer(graph: Graph, node: Node) -> Node | None:
    """The only convolution that reads a layer's output, behind its activation."""
    readers = graph.readers(node.name)
    while len(readers) == 1 and readers[0].op in ACTIVATIONS:
        readers = graph.readers(readers[0].name)
    return readers[0] if len(readers) == 1 and readers[0].op == "conv2d" else None


def _pointwise(node: Node) -> bool:
    return tuple(node.attributes["stride"]) == (1, 1) and not any(node.attributes["padding"])


def _module(
    graph: Graph, block: Block, name: str, values: dict[str, NDArray[np.float32]]
) -> list[Node]:
    """The module's nodes; none where the map sizes do not allow one."""
    source, target = graph.shape(block.source), block.last.shape
    axes = [_axis(source[axis], target[axis]) for axis in (1, 2)]
    if None in axes:
        return []
    factor, stride, kernel = zip(*(axis for axis in axes if axis is not None), strict=True)
    channels = max(LEAST_CHANNELS, 2 * round(block.expanded / REDUCTION / 2))
    groups = gcd(2, source[3])
    small = tuple(source[axis] // factor[axis - 1] for axis in (1, 2))
    out = tuple(target[axis] // factor[axis - 1] for axis in (1, 2))
    generator = np.random.default_rng(len(values))
    nodes: list[Node] = []

    def emit(part: str, op: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
        inputs = [nodes[-1].name if nodes else block.source]
        if op in ("conv2d", "group_norm"):
            inputs += [f"{name}.{part}.weight", f"{name}.{part}.bias"]
        nodes.append(Node(f"{name}.{part}", op, tuple(inputs), attributes, (1, *shape)))

    def convolve(part: str, window: tuple[int, ...], inner: int, outer: int, **more: Any) -> None:
        deviation = np.sqrt(2.0 / (inner * window[0] * window[1]))
        weight = generator.normal(0.0, deviation, (outer, *window, inner))
        values[f"{name}.{part}.weight"] = weight.astype(np.float32)
        values[f"{name}.{part}.bias"] = np.zeros(outer, np.float32)
        emit(part, "conv2d", (*out, outer), more)

    def normalise(part: str, count: int, scale: float) -> None:
        values[f"{name}.{part}.weight"] = np.full(count, scale, np.float32)
        values[f"{name}.{part}.bias"] = np.zeros(count, np.float32)
        divided = count // NORM_CHANNELS if count % NORM_CHANNELS == 0 else 1
        attributes = {"groups": divided, "per_pixel": False, "epsilon": EPSILON}
        emit(part, "group_norm", (*out, count), attributes)

    if factor != (1, 1):
        pool = {"kernel": factor, "stride": factor, "padding": (0, 0, 0, 0)}
        emit("pool", "avg_pool2d", (*small, source[3]), pool)
    padding = (kernel[0] // 2, kernel[1] // 2) * 2
    geometry = {"stride": stride, "padding": padding, "groups": groups}
    convolve("conv1", kernel, source[3] // groups, channels, **geometry)
    normalise("norm1", channels, 1.0)
    emit("relu", "clip", (*out, channels), {"low": 0.0, "high": LARGEST_FLOAT32})
    plain = {"stride": (1, 1), "padding": (0, 0, 0, 0), "groups": 1}
    convolve("conv2", (1, 1), channels, target[3], **plain)
    normalise("norm2", target[3], 0.0)
    if factor != (1, 1):
        emit("upsample", "upsample2d", target[1:], {"factor": factor})
    return nodes


def _axis(source: int, target: int) -> tuple[int, int, int] | None:
    """Pooling factor, stride and kernel of the module along one axis."""
    stride = -(-source // target)
    for factor in (2, 1):
        if source % factor or target % factor:
            continue
        small = source // factor
        if -(-small // stride) * factor == target:
            kernel = 1 if small == 1 else 3 if small <= 4 else 5
            return factor, stride, kernel
    return None
