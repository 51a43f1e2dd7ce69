"""Evaluates an ONNX graph's integer arithmetic on shapes, which exporters leave in static models.

PyTorch exports F.pad and chunk as a dozen operators on constants; TVM wants the numbers themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

LARGEST_RESULT = 1024  # Elements: shapes and indices are small, and weights stay as they are.


def evaluate_shapes(model: Any) -> None:
    """Replaces every operator with a small constant integer result by that constant, in place."""
    graph = model.graph
    known = {t.name: np.asarray(numpy_helper.to_array(t)) for t in graph.initializer}
    shapes = _static_shapes(model)
    nodes: list[Any] = []
    for node in graph.node:
        values = _constant_results(node, known, shapes, model.opset_import)
        if values is None:
            nodes.append(node)
            continue
        known.update(values)
        nodes += [_constant(name, value) for name, value in values.items()]
    used = {name for node in nodes for name in node.input}
    used |= {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(node for node in nodes if used.intersection(node.output))


def _constant(name: str, value: NDArray[Any]) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))


def _static_shapes(model: Any) -> dict[str, NDArray[np.int64]]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {}
    for value in (*inferred.input, *inferred.value_info):
        extents = value.type.tensor_type.shape.dim
        if all(extent.dim_value > 0 for extent in extents):
            shapes[value.name] = np.asarray([extent.dim_value for extent in extents], np.int64)
    return shapes


def _constant_results(
    node: Any, known: dict[str, Any], shapes: dict[str, NDArray[np.int64]], opsets: Any
) -> dict[str, NDArray[Any]] | None:
    """Values of a node's outputs where all of them are small constant integers."""
    if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
        return {node.output[0]: shapes[node.input[0]]}
    inputs = [name for name in node.input if name]
    if node.domain not in ("", "ai.onnx") or any(name not in known for name in inputs):
        return None
    if any(known[name].size > LARGEST_RESULT for name in inputs):
        return None
    graph = helper.make_graph(
        [node],
        "constant",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(known[name].dtype), known[name].shape
            )
            for name in inputs
        ],
        [helper.make_empty_tensor_value_info(name) for name in node.output],
    )
    try:
        run = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run
        results = run(None, {name: known[name] for name in inputs})
    except Exception:  # Not what the evaluator can do: TVM may still import it.
        return None
    arrays = [np.asarray(result) for result in results]
    if any(a.dtype.kind not in "ibu" or a.size > LARGEST_RESULT for a in arrays):
        return None
    return dict(zip(node.output, arrays, strict=True))
