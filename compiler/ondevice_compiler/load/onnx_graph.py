"""Rewrites an ONNX graph so that TVM can import it: folds, and stand-ins for what it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

FLOW = ("If", "Loop", "Scan")  # Control flow: no static program.


def fold(model: Any) -> None:
    """Folds Pad into the convolutions that read it, and Gemm's factors into its constants."""
    graph = _Graph(model.graph)
    for node in list(model.graph.node):
        if node.op_type == "Pad":
            _fold_pad(graph, node)
        elif node.op_type == "Gemm":
            _fold_factor(graph, node, "alpha", 1)
            _fold_factor(graph, node, "beta", 2)


def replace_unknown(model: Any, known: Callable[[str], bool]) -> list[str]:
    """Replaces operators that are not known by inputs of the graph, so that the rest imports.

    Args:
        model: Changed in place. New inputs and outputs come behind the graph's own.
        known: Says whether TVM imports an operator of this type.

    Returns:
        Names of the operators that are not known; with them the model can no longer run.
    """

    def strange(node: Any) -> bool:
        foreign = node.domain not in ("", "ai.onnx")
        return foreign or node.op_type in FLOW or not known(node.op_type)

    nodes = [node for node in model.graph.node if strange(node)]
    if not nodes:
        return []
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = {value.name: value for value in (*inferred.value_info, *inferred.output)}
    for node in nodes:
        for output in node.output:
            if output in values:
                # The element type is of no matter: nothing that follows will run.
                shape = values[output].type.tensor_type.shape
                stand_in = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
                stand_in.type.tensor_type.shape.CopyFrom(shape)
                model.graph.input.append(stand_in)
        model.graph.node.remove(node)
    # What led to them must not be dropped as unused.
    computed = {output for node in model.graph.node for output in node.output}
    wanted = dict.fromkeys(name for node in nodes for name in node.input if name in computed)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    return sorted({f"{node.domain}.{node.op_type}".removeprefix(".") for node in nodes})


class _Graph:
    """Who reads what, and the values of constants."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}

    def readers(self, name: str) -> list[Any]:
        return [node for node in self.graph.node if name in node.input]

    def constant(self, name: str) -> NDArray[Any] | None:
        if name in self.initializers:
            return np.asarray(numpy_helper.to_array(self.initializers[name]))
        for node in self.graph.node:
            if node.op_type == "Constant" and name in node.output:
                value = _attribute(node, "value", None)
                return None if value is None else np.asarray(numpy_helper.to_array(value))
        return None

    def is_output(self, name: str) -> bool:
        return any(value.name == name for value in self.graph.output)


def _attribute(node: Any, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return default


def _remove_attribute(node: Any, name: str) -> None:
    for attribute in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(attribute)


def _fold_factor(graph: _Graph, node: Any, attribute: str, position: int) -> None:
    """alpha into the constant B, beta into the constant C, where nothing else reads it."""
    factor = _attribute(node, attribute, 1.0)
    name = node.input[position] if position < len(node.input) else ""
    if factor == 1.0 or name not in graph.initializers or len(graph.readers(name)) != 1:
        return
    tensor = graph.initializers[name]
    value = np.asarray(numpy_helper.to_array(tensor))
    tensor.CopyFrom(numpy_helper.from_array((value * factor).astype(value.dtype), name))
    _remove_attribute(node, attribute)


def _fold_pad(graph: _Graph, node: Any) -> None:
    """Zeros around the map, read by nothing but convolutions: their own padding grows."""
    rank_pads = _pads(graph, node)
    readers = graph.readers(node.output[0])
    if rank_pads is None or not readers or graph.is_output(node.output[0]):
        return
    for reader in readers:
        explicit = _attribute(reader, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        if reader.op_type != "Conv" or list(reader.input).count(node.output[0]) != 1:
            return
        if reader.input[0] != node.output[0] or not explicit:
            return
    rank = len(rank_pads) // 2
    spatial = [*rank_pads[2:rank], *rank_pads[rank + 2 :]]
    if any(rank_pads[axis] for axis in (0, 1, rank, rank + 1)) or min(spatial) < 0:
        return
    for reader in readers:
        own = _attribute(reader, "pads", [0] * len(spatial))
        total = [int(a + b) for a, b in zip(own, spatial, strict=True)]
        for attribute in ("pads", "auto_pad"):
            _remove_attribute(reader, attribute)
        reader.attribute.append(helper.make_attribute("pads", total))
        reader.input[0] = node.input[0]
    graph.graph.node.remove(node)


def _pads(graph: _Graph, node: Any) -> list[int] | None:
    """Padding before and after each axis, if it is constant, of zeros and of every axis."""
    if _attribute(node, "mode", b"constant") != b"constant":
        return None
    pads = _attribute(node, "pads", None)  # Up to opset 10.
    if pads is not None:
        return list(pads) if _attribute(node, "value", 0.0) == 0 else None
    given = [graph.constant(name) if name else None for name in node.input[1:]]
    if not given or given[0] is None or any(node.input[3:]):
        return None
    filled = len(node.input) > 2 and node.input[2] != ""
    if filled and (given[1] is None or given[1].reshape(-1)[0] != 0):
        return None
    return [int(v) for v in given[0]]
