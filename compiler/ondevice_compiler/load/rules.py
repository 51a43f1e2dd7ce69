"""One rule an operator of TVM's frontends: what it is in the normal form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.kernel_builder import LARGEST_FLOAT32
from ondevice_compiler.load.normal_form import UNKNOWN, Convolution, Feature, Named, Normalizer
from ondevice_compiler.ops.operator import shape_of

ValueOf = Callable[[Any], Any]
LARGEST_ARGMAX_WINDOW = 256  # An argmax is one byte.


def constant_value(expression: Any) -> Any:
    """The NumPy value of a Relax constant, or None."""
    data = getattr(expression, "data", None)
    if data is None:
        data = getattr(expression, "value", None)
    return data.numpy() if data is not None and hasattr(data, "numpy") else None


def _constant(value: Any) -> NDArray[Any] | None:
    if isinstance(value, Named):
        return value.value
    return value if isinstance(value, np.ndarray) else None


def _unsupported(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    name = getattr(getattr(node, "op", None), "name", type(node).__name__)
    if name == "relax.call_tir":
        name = node.args[0].name_hint
    n.unsupported.add(name.removeprefix("relax."))
    return UNKNOWN


def _reject(n: Normalizer, what: str) -> Any:
    n.unsupported.add(what)
    return UNKNOWN


def _convolution(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """conv1d or conv2d; the weight becomes [O, kh, kw, I/groups]."""
    x, named = value_of(node.args[0]), value_of(node.args[1])
    weight = _constant(named)
    if not isinstance(x, Feature) or weight is None:
        return _reject(n, "convolution whose weight is computed")
    if any(int(d) != 1 for d in node.attrs.dilation):
        return _reject(n, f"convolution with dilation {[int(d) for d in node.attrs.dilation]}")
    stride = [int(s) for s in node.attrs.strides]
    padding = [int(p) for p in node.attrs.padding]
    if weight.ndim == 3:
        weight, stride, padding = weight[:, :, None], [1, *stride], [0, padding[0], 0, padding[1]]
    x = _with_axes(n, x, ("N", "C", "W") if len(x.axes) == 3 else ("N", "C", "H", "W"))
    if x is UNKNOWN:
        return UNKNOWN
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


def _matmul(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """x @ w with a constant w [K, O]: a convolution over the axes behind K."""
    x, named = value_of(node.args[0]), value_of(node.args[1])
    weight = _constant(named)
    if not isinstance(x, Feature) or weight is None or weight.ndim != 2:
        return _reject(n, "matmul of two computed tensors")
    letters = x.axes[-1]
    if "C" not in letters or weight.shape[0] != x.extent(letters):
        return _reject(n, f"matmul over the axes {letters or '1'}")
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


def _add(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    a, b = value_of(node.args[0]), value_of(node.args[1])
    if isinstance(b, Feature) and not isinstance(a, Feature):
        a, b = b, a
    if isinstance(a, Feature) and isinstance(b, Feature):
        if a.axes != b.axes or a.shape != b.shape:
            return _reject(n, "add of tensors of different shape")
        a, b = n.materialize(a), n.materialize(b)
        return Feature(n.emit("add", a.expression, b.expression), a.axes, a.shape)
    bias = _constant(b)
    if not isinstance(a, Feature) or bias is None:
        left = _constant(a)
        return (
            left + bias
            if left is not None and bias is not None
            else _unsupported(n, node, value_of)
        )
    if a.pending is None or a.clip is not None or bias.size not in (1, a.shape[3]):
        return _reject(n, "add of a constant that is no bias")
    total = a.pending.bias + np.broadcast_to(bias.reshape(-1), a.pending.bias.shape)
    return replace(a, pending=replace(a.pending, bias=total))


def _batch_norm(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    constants = [_constant(value_of(argument)) for argument in node.args[1:5]]
    if (
        not isinstance(x, Feature)
        or x.pending is None
        or x.clip
        or any(c is None for c in constants)
    ):
        return _reject(n, "batch_norm that does not follow a convolution")
    gamma, beta, mean, variance = (np.asarray(c, np.float64) for c in constants)
    factor = gamma / np.sqrt(variance + float(node.attrs.epsilon))
    conv = x.pending
    folded = replace(
        conv,
        weight=(conv.weight * factor[:, None, None, None]).astype(np.float32),
        bias=((conv.bias - mean) * factor + beta).astype(np.float32),
    )
    return (replace(x, pending=folded), None, None)


def _clip(low: Any, high: Any) -> Callable[[Normalizer, Any, ValueOf], Any]:
    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x = value_of(node.args[0])
        bottom = float(low(node, value_of))
        top = float(high(node, value_of))
        if not isinstance(x, Feature):
            return _unsupported(n, node, value_of)
        return _clipped(n, x, bottom, top)

    return rule


def _clipped(n: Normalizer, x: Feature, low: float, high: float) -> Feature:
    if x.clip is not None and x.clip[1] == LARGEST_FLOAT32 and low == -LARGEST_FLOAT32:
        return replace(x, clip=(x.clip[0], high))
    if x.clip is not None:
        x = n.materialize(x)
    return replace(x, clip=(low, min(high, LARGEST_FLOAT32)))


def _bound(name: str, node: Any, value_of: ValueOf) -> float:
    """Second argument of TIR's maximum or minimum, a scalar constant."""
    arguments = node.args[1].fields if hasattr(node.args[1], "fields") else node.args[1]
    value = _constant(value_of(arguments[1]))
    if value is None or value.size != 1:
        raise KeyError(name)
    return float(value.reshape(()))


def _extremum(lower: bool) -> Callable[[Normalizer, Any, ValueOf], Any]:
    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x = value_of(node.args[1].fields[0])
        try:
            bound = _bound("bound", node, value_of)
        except KeyError:
            return _unsupported(n, node, value_of)
        if not isinstance(x, Feature):
            return _unsupported(n, node, value_of)
        if abs(bound) == float("inf"):
            return x
        low, high = (bound, LARGEST_FLOAT32) if lower else (-LARGEST_FLOAT32, bound)
        return _clipped(n, x, low, high)

    return rule


def _pool(kind: str) -> Callable[[Normalizer, Any, ValueOf], Any]:
    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x = value_of(node.args[0])
        attrs = node.attrs
        kernel, stride = ([int(v) for v in attrs.pool_size], [int(v) for v in attrs.strides])
        padding = [int(v) for v in attrs.padding]
        if (
            not isinstance(x, Feature)
            or attrs.ceil_mode
            or any(int(d) != 1 for d in attrs.dilation)
        ):
            return _reject(n, f"{kind} with ceil_mode or dilation")
        if kind == "avg_pool2d" and any(padding) and not attrs.count_include_pad:
            return _reject(n, "avg_pool with padding that is not counted")
        if kind == "max_pool2d" and prod(kernel) > LARGEST_ARGMAX_WINDOW:
            return _reject(n, f"{kind} with a window of {prod(kernel)} elements, above 256")
        if len(kernel) == 1:
            kernel, stride, padding = [1, *kernel], [1, *stride], [0, padding[0], 0, padding[1]]
        x = _with_axes(n, x, x.axes if len(x.axes) == 4 else ("N", "C", "W"))
        if x is UNKNOWN:
            return UNKNOWN
        return _pooled(n, x, kind, kernel, stride, padding)

    return rule


def _pooled(
    n: Normalizer, x: Feature, kind: str, kernel: list[int], stride: list[int], padding: list[int]
) -> Feature:
    x = n.materialize(x)
    node = n.emit(kind, x.expression, kernel=kernel, stride=stride, padding=padding)
    height = (x.shape[1] + padding[0] + padding[2] - kernel[0]) // stride[0] + 1
    width = (x.shape[2] + padding[1] + padding[3] - kernel[1]) // stride[1] + 1
    return Feature(node, x.axes, (1, height, width, x.shape[3]))


def _mean(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Mean over the spatial axes: a global average pool."""
    x = value_of(node.args[0])
    if not isinstance(x, Feature):
        return _unsupported(n, node, value_of)
    rank = len(x.axes)
    reduced = sorted(int(axis) % rank for axis in node.attrs.axis)
    letters = "".join(x.axes[axis] for axis in reduced)
    spatial = "".join(letter for letter in "HW" if x.extent(letter) > 1)
    if "C" in letters or not set(spatial) <= set(letters):
        return _reject(n, f"mean over the axes {reduced} of {rank}")
    pooled = _pooled(n, x, "avg_pool2d", [x.shape[1], x.shape[2]], [1, 1], [0, 0, 0, 0])
    if node.attrs.keepdims:
        return replace(pooled, axes=tuple("" if a in reduced else v for a, v in enumerate(x.axes)))
    return replace(pooled, axes=tuple(v for a, v in enumerate(x.axes) if a not in reduced))


def _global_pool(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    size = node.attrs.output_size
    if not isinstance(x, Feature) or size is None or any(int(s) != 1 for s in size):
        return _reject(n, "adaptive_avg_pool with an output larger than 1")
    return _pooled(n, x, "avg_pool2d", [x.shape[1], x.shape[2]], [1, 1], [0, 0, 0, 0])


def _view(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """reshape, squeeze, expand_dims, flatten: regroups the axes without moving an element."""
    x = value_of(node.args[0])
    target = shape_of(node)
    constant = _constant(x)
    if constant is not None:
        value = constant.reshape(target)
        return Named(value, x.name) if isinstance(x, Named) else value
    if not isinstance(x, Feature):
        return _unsupported(n, node, value_of)
    letters = [letter for axis in x.axes for letter in axis if letter != "N"]
    letters = [letter for letter in letters if x.extent(letter) > 1] or ["C"]
    axes: list[str] = ["N"] if target[0] == 1 else []
    for extent in target[len(axes) :]:
        group = ""
        while x.extent(group) < extent and letters:
            group += letters.pop(0)
        if x.extent(group) != extent:
            return _reject(n, f"reshape from {[x.extent(a) for a in x.axes]} to {list(target)}")
        axes.append(group)
    if letters and letters != ["C"]:
        return _reject(n, f"reshape to {list(target)}")
    if not any("C" in axis for axis in axes):
        slot = next((i for i in range(1, len(axes)) if axes[i] == ""), len(axes) - 1)
        axes[slot] = "C" + axes[slot]
    return replace(x, axes=tuple(axes))


def _permute(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    axes = node.attrs.axes
    constant = _constant(x)
    rank = len(shape_of(node.args[0]))
    order = [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))[::-1]
    if constant is not None:
        value = constant.transpose(order)
        return Named(value, x.name) if isinstance(x, Named) else value
    if not isinstance(x, Feature):
        return _unsupported(n, node, value_of)
    return replace(x, axes=tuple(x.axes[axis] for axis in order))


def _with_axes(n: Normalizer, x: Feature, wanted: tuple[str, ...]) -> Any:
    """The feature under the axes that an operator reads, where they differ only in unit axes."""
    given = [axis for axis in x.axes if axis != "N" and x.extent(axis) > 1]
    needed = [axis for axis in wanted if axis != "N" and x.extent(axis) > 1]
    if given == needed and len(x.axes) == len(wanted):
        return replace(x, axes=wanted)
    return _reject(n, f"a transposed feature map (axes {x.axes}) as input of a convolution or pool")


def _fold(function: Callable[..., Any]) -> Callable[[Normalizer, Any, ValueOf], Any]:
    """Evaluates an operator on constants at compile time."""

    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        arguments = [_constant(value_of(argument)) for argument in node.args]
        if any(argument is None for argument in arguments):
            return _unsupported(n, node, value_of)
        return np.asarray(function(*arguments))

    return rule


def _dropped(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    return value_of(node.args[0])


def _prim(index: int) -> Callable[[Any, ValueOf], float]:
    return lambda node, value_of: float(getattr(node.args[index], "value", node.args[index]))


RULES: dict[str, Callable[[Normalizer, Any, ValueOf], Any]] = {
    "unsupported": _unsupported,
    "alias": lambda n, node, value_of: value_of(node),
    "constant": lambda n, node, value_of: constant_value(node),
    "tuple": lambda n, node, value_of: tuple(value_of(field) for field in node.fields),
    "item": lambda n, node, value_of: (value_of(node.tuple_value) or (None,) * 9)[node.index],
    "relax.nn.conv1d": _convolution,
    "relax.nn.conv2d": _convolution,
    "relax.matmul": _matmul,
    "relax.add": _add,
    "relax.nn.batch_norm": _batch_norm,
    "relax.nn.relu": _clip(lambda node, v: 0.0, lambda node, v: LARGEST_FLOAT32),
    "relax.nn.relu6": _clip(lambda node, v: 0.0, lambda node, v: 6.0),
    "relax.clip": _clip(_prim(1), _prim(2)),
    "tir.maximum": _extremum(lower=True),
    "tir.minimum": _extremum(lower=False),
    "relax.nn.max_pool1d": _pool("max_pool2d"),
    "relax.nn.max_pool2d": _pool("max_pool2d"),
    "relax.nn.avg_pool1d": _pool("avg_pool2d"),
    "relax.nn.avg_pool2d": _pool("avg_pool2d"),
    "relax.nn.adaptive_avg_pool1d": _global_pool,
    "relax.nn.adaptive_avg_pool2d": _global_pool,
    "relax.mean": _mean,
    "relax.reshape": _view,
    "relax.squeeze": _view,
    "relax.expand_dims": _view,
    "relax.flatten": _view,
    "relax.nn.batch_flatten": _view,
    "relax.permute_dims": _permute,
    "relax.nn.dropout": _dropped,
    "relax.zeros_like": lambda n, node, value_of: None,
    "relax.isnan": _fold(np.isnan),
    "relax.where": _fold(np.where),
}
