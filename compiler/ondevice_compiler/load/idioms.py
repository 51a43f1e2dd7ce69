"""What importers spell out in several operators, put back into the one that the model had.

TVM's ONNX importer takes norms apart and wraps negative indices; torch's scaled dot product guards
its softmax against rows that are masked as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.dpl import is_const, is_op, rewrite_call, wildcard

from ondevice_compiler.load.rules.rule import constant_value
from ondevice_compiler.ops.operator import shape_of

Idiom = tuple[Any, Callable[[Any, Any], Any]]  # pattern; (matched, parts) -> replacement


def simplify(module: tvm.IRModule) -> tvm.IRModule:
    """Rewrites `main` of an imported module; its parameters stay as they are."""
    function = module["main"]
    for idiom in (_wrapped_index, _guarded_softmax, _instance_norm, _group_norm):
        function = rewrite_call(*idiom(), function)
    return relax.transform.DeadCodeElimination()(tvm.IRModule({"main": function}))


def _wrapped_index() -> Idiom:
    """where(i < 0, i + n, i) of indices: TVM's Gather counts negative ones from the end."""
    index = wildcard()
    negative = is_op("relax.less")(index, wildcard())
    pattern = is_op("relax.where")(negative, is_op("relax.add")(index, wildcard()), index)

    def rewrite(matched: Any, parts: Any) -> Any:
        integer = "int" in str(matched.ty.dtype)
        return parts[index] if integer else matched

    return pattern, rewrite


def _guarded_softmax() -> Idiom:
    """where(no score of the row is above -inf, 0, softmax(scores))."""
    scores = wildcard()
    softmax = is_op("relax.nn.softmax")(scores)
    open_ = is_op("relax.logical_not")(is_op("relax.equal")(scores, is_const()))
    any_open = is_op("relax.max")(is_op("relax.astype")(open_))
    closed = is_op("relax.logical_not")(is_op("relax.astype")(any_open))
    zeros = is_op("relax.full_like")(softmax, is_const())
    return is_op("relax.where")(closed, zeros, softmax), lambda matched, parts: parts[softmax]


def _instance_norm() -> Idiom:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias, as TVM's ONNX importer writes it."""
    x, weight, bias, epsilon = wildcard(), wildcard(), wildcard(), is_const()
    reshape = is_op("relax.reshape")
    centred = is_op("relax.subtract")(x, is_op("relax.mean")(x))
    deviation = is_op("relax.sqrt")(is_op("relax.add")(is_op("relax.variance")(x), epsilon))
    normal = is_op("relax.divide")(centred, deviation)
    scaled = is_op("relax.multiply")(normal, reshape(weight, wildcard()))
    pattern = is_op("relax.add")(scaled, reshape(bias, wildcard()))

    def rewrite(matched: Any, parts: Any) -> Any:
        return relax.op.nn.instance_norm(
            parts[x],
            parts[weight],
            parts[bias],
            channel_axis=1,
            axes=list(range(2, len(shape_of(matched)))),
            epsilon=float(constant_value(parts[epsilon])),
        )

    return pattern, rewrite


def _group_norm() -> Idiom:
    """An instance norm of the groups, then scaled and moved for each channel (ONNX below 18)."""
    x, weight, bias, ones, zeros = wildcard(), wildcard(), wildcard(), is_const(), is_const()
    reshape = is_op("relax.reshape")
    grouped = reshape(x, wildcard())
    normal = is_op("relax.nn.instance_norm")(grouped, ones, zeros)
    scaled = is_op("relax.multiply")(reshape(normal, wildcard()), weight)
    pattern = is_op("relax.add")(scaled, bias)

    def rewrite(matched: Any, parts: Any) -> Any:
        shape = shape_of(matched)
        sizes = {prod(shape_of(parts[p])) for p in (weight, bias)}
        affine = constant_value(parts[ones]), constant_value(parts[zeros])
        plain = bool(np.all(affine[0] == 1) and np.all(affine[1] == 0))
        if not plain or sizes != {shape[1]} or shape_of(parts[x]) != shape:
            return matched
        return relax.op.nn.group_norm(
            parts[x],
            relax.op.reshape(parts[weight], [shape[1]]),
            relax.op.reshape(parts[bias], [shape[1]]),
            num_groups=shape_of(parts[grouped])[1],
            channel_axis=1,
            axes=list(range(2, len(shape))),
            epsilon=float(parts[normal].attrs.epsilon),
        )

    return pattern, rewrite
