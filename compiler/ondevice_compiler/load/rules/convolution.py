"""Convolutions, linear layers, and what folds into them: biases and batch norms."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ondevice_compiler.load.batch_norm import BatchNorm
from ondevice_compiler.load.normal_form import UNKNOWN, Convolution, Feature, Named, Normalizer
from ondevice_compiler.load.rules.rule import (
    Rule,
    ValueOf,
    constant,
    reject,
    with_axes,
)


def _convolution(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """conv1d or conv2d; the weight becomes [O, kh, kw, I/groups]."""
    x, named = value_of(node.args[0]), value_of(node.args[1])
    weight = constant(named)
    if not isinstance(x, Feature) or weight is None:
        return reject(n, "convolution whose weight is computed")
    if any(int(d) != 1 for d in node.attrs.dilation):
        return reject(n, f"convolution with dilation {[int(d) for d in node.attrs.dilation]}")
    stride = [int(s) for s in node.attrs.strides]
    padding = [int(p) for p in node.attrs.padding]
    if weight.ndim == 3:
        weight, stride, padding = weight[:, :, None], [1, *stride], [0, padding[0], 0, padding[1]]
    x = with_axes(n, x, ("N", "C", "W") if len(x.axes) == 3 else ("N", "C", "H", "W"))
    if x is UNKNOWN:
        return UNKNOWN
    x, padding = _with_padding(x, padding)
    weight = weight.transpose(0, 2, 3, 1)
    name = named.name if isinstance(named, Named) else f"conv{len(n.parameters) // 2}"
    height = (x.shape[1] + padding[0] + padding[2] - weight.shape[1]) // stride[0] + 1
    width = (x.shape[2] + padding[1] + padding[3] - weight.shape[2]) // stride[1] + 1
    node_ = Convolution(
        n.materialize(x),
        name,
        weight,
        np.zeros(weight.shape[0], np.float32),
        (stride[0], stride[1]),
        (padding[0], padding[1], padding[2], padding[3]),
        int(node.attrs.groups),
    )
    return Feature(None, x.axes, (1, height, width, weight.shape[0]), pending=node_)


def _with_padding(x: Feature, padding: list[int]) -> tuple[Feature, list[int]]:
    """Takes the zeros around a map into the padding of the convolution."""
    if x.padding is None:
        return x, padding
    top, left, bottom, right = x.padding
    shape = (1, x.shape[1] - top - bottom, x.shape[2] - left - right, x.shape[3])
    total = [own + more for own, more in zip(padding, x.padding, strict=True)]
    return replace(x, padding=None, shape=shape), total


def _transposed(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """conv1d_transpose or conv2d_transpose: [I, O/groups, kh, kw] becomes [O, kh, kw, I/groups]."""
    x, named = value_of(node.args[0]), value_of(node.args[1])
    weight = constant(named)
    if not isinstance(x, Feature) or weight is None:
        return reject(n, "transposed convolution whose weight is computed")
    if any(int(d) != 1 for d in node.attrs.dilation):
        return reject(n, "transposed convolution with dilation")
    stride = [int(s) for s in node.attrs.strides]
    padding = [int(p) for p in node.attrs.padding]
    more = [int(p) for p in node.attrs.output_padding]
    if weight.ndim == 3:
        weight, stride, more = weight[:, :, None], [1, *stride], [0, *more]
        padding = [0, padding[0], 0, padding[1]]
    x = with_axes(n, x, ("N", "C", "W") if len(x.axes) == 3 else ("N", "C", "H", "W"))
    if x is UNKNOWN:
        return UNKNOWN
    groups = int(node.attrs.groups)
    inputs, outputs, kernel_height, kernel_width = weight.shape
    grouped = weight.reshape(groups, inputs // groups, outputs, kernel_height, kernel_width)
    kernel = grouped.transpose(0, 2, 3, 4, 1).reshape(groups * outputs, *weight.shape[2:], -1)
    node_ = Convolution(
        n.materialize(x),
        named.name if isinstance(named, Named) else f"conv{len(n.parameters) // 2}",
        kernel,
        np.zeros(groups * outputs, np.float32),
        (stride[0], stride[1]),
        (padding[0], padding[1], padding[2], padding[3]),
        groups,
        output_padding=(more[0], more[1]),
    )
    height = (x.shape[1] - 1) * stride[0] + kernel_height - padding[0] - padding[2] + more[0]
    width = (x.shape[2] - 1) * stride[1] + kernel_width - padding[1] - padding[3] + more[1]
    return Feature(None, x.axes, (1, height, width, groups * outputs), pending=node_)


def _matmul(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """x @ w with a constant w [K, O]: a convolution over the axes behind K."""
    x, named = value_of(node.args[0]), value_of(node.args[1])
    weight = constant(named)
    if weight is not None and weight.ndim > 2 and weight.size == prod(weight.shape[-2:]):
        weight = weight.reshape(weight.shape[-2:])  # torch gives it the batch axis
    if not isinstance(x, Feature) or weight is None or weight.ndim != 2:
        return reject(n, "matmul of two computed tensors")
    letters = x.axes[-1]
    if "C" not in letters or weight.shape[0] != x.extent(letters):
        return reject(n, f"matmul over the axes {letters or '1'}")
    x = n.materialize(x)
    extents = [x.extent(letter) for letter in letters]
    kernel = weight.T.reshape(weight.shape[1], *extents)
    order = [letters.index(letter) + 1 if letter in letters else None for letter in "HWC"]
    kernel = kernel.transpose(0, *[axis for axis in order if axis is not None])
    shape = [weight.shape[1], *(1 if a is None else extents[a - 1] for a in order)]
    name = named.name if isinstance(named, Named) else f"linear{len(n.parameters) // 2}"
    node_ = Convolution(
        x,
        name,
        kernel.reshape(shape),
        np.zeros(weight.shape[1], np.float32),
        (1, 1),
        (0, 0, 0, 0),
        1,
    )
    out = (1, x.shape[1] - shape[1] + 1, x.shape[2] - shape[2] + 1, weight.shape[1])
    return Feature(None, (*x.axes[:-1], "C"), out, pending=node_)


def _batch_norm(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Into the convolution before it; elsewhere a depthwise convolution with a window of 1."""
    x, named = value_of(node.args[0]), value_of(node.args[1])
    constants = [constant(value_of(argument)) for argument in node.args[1:5]]
    axis = int(node.attrs.axis)
    if not isinstance(x, Feature) or any(c is None for c in constants):
        return reject(n, "batch_norm of a constant, or with computed statistics")
    if x.axes[axis] != "C":
        return reject(n, f"batch_norm over the axis {x.axes[axis] or '1'}")
    conv = x.pending
    if conv is None or x.clip is not None:
        name = named.name if isinstance(named, Named) else f"norm{len(n.parameters) // 2}"
        ones, zeros = np.ones((x.shape[3], 1, 1, 1), np.float32), np.zeros(x.shape[3], np.float32)
        source = n.materialize(x)
        conv = Convolution(source, name, ones, zeros, (1, 1), (0, 0, 0, 0), x.shape[3])
        x = Feature(None, x.axes, x.shape)
    own = named.name if isinstance(named, Named) else ""
    epsilon = float(node.attrs.epsilon)
    norm = BatchNorm.after(own, conv.weight, conv.bias, constants, epsilon)
    weight, bias = norm.folded()
    folded = replace(conv, weight=weight, bias=bias, norm=norm)
    return (replace(x, pending=folded), None, None)


RULES: dict[str, Rule] = {
    "relax.nn.conv1d": _convolution,
    "relax.nn.conv2d": _convolution,
    "relax.nn.conv1d_transpose": _transposed,
    "relax.nn.conv2d_transpose": _transposed,
    "relax.matmul": _matmul,
    "relax.nn.batch_norm": _batch_norm,
}
