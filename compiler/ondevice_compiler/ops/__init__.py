"""The operators: one line of this table each, one file each beside it."""

from __future__ import annotations

from ondevice_compiler.ops import (
    add,
    bias_gradient,
    clip,
    conv2d,
    conv2d_dw,
    conv2d_dx,
    group_norm,
    losses,
    parameter_update,
    pool,
    upsample,
)
from ondevice_compiler.ops.operator import Operator

OPERATORS: dict[str, Operator] = {
    "conv2d": conv2d.OPERATOR,
    "conv2d_dx": conv2d_dx.OPERATOR,
    "conv2d_dw": conv2d_dw.OPERATOR,
    "bias_gradient": bias_gradient.OPERATOR,
    "apply_update": parameter_update.OPERATOR,
    "clip": clip.OPERATOR,
    "clip_gradient": clip.GRADIENT,
    "pack_mask": clip.MASK,
    "add": add.OPERATOR,
    "add_gradient": add.GRADIENT,
    "max_pool2d": pool.MAX,
    "max_pool2d_argmax": pool.ARGMAX,
    "max_pool2d_gradient": pool.MAX_GRADIENT,
    "avg_pool2d": pool.AVERAGE,
    "avg_pool2d_gradient": pool.AVERAGE_GRADIENT,
    "upsample2d": upsample.OPERATOR,
    "upsample2d_gradient": upsample.GRADIENT,
    "group_norm": group_norm.OPERATOR,
    "group_norm_statistics": group_norm.STATISTICS,
    "group_norm_gradient": group_norm.GRADIENT,
    "group_norm_weight_gradient": group_norm.WEIGHT_GRADIENT,
    "group_norm_bias_gradient": bias_gradient.OPERATOR,
    "cross_entropy_error": losses.ERROR,
    "binary_cross_entropy_error": losses.ERROR,
    "mse_error": losses.ERROR,
    "quantize_error": losses.ERROR,
    "clip_norm": losses.ERROR,
}
