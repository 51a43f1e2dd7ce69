"""Which channels of a weight are trained where not all are.

A channel is an input channel of a convolution or linear layer, since then backward needs only these
channels of the layer's input; a depthwise weight's channels are its own. Sparse tensor update as in
Lin et al., On-Device Training Under 256KB Memory, 2022.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ondevice_compiler.errors import UserError
from ondevice_compiler.program import Program


def channel_axis(program: Program, weight: str) -> int:
    """Axis of a weight [O, kh, kw, I / groups] along which it can be trained in part.

    Raises:
        UserError: Not the weight of a convolution, or of one with groups that is not depthwise.
    """
    reader = next(iter(program.consumers(weight)), None)
    if reader is None or reader.op != "conv2d" or reader.inputs[1] != weight:
        raise UserError(
            f"{weight} cannot be trained in part; allowed: weights of convolutions and linear "
            "layers; train it whole"
        )
    shape, groups = program.tensor(weight).shape, reader.attributes["groups"]
    if groups == 1:
        return 3
    if shape[0] != groups or shape[3] != 1:
        raise UserError(
            f"{weight} has {groups} groups and cannot be trained in part; allowed: 1 group, or "
            f"depthwise with as many groups as channels ({shape[0]}); train it whole"
        )
    return 0


def channel_count(program: Program, weight: str) -> int:
    """Number of channels from which a part is chosen."""
    return program.tensor(weight).shape[channel_axis(program, weight)]


def strongest_channels(program: Program, weight: str, ratio: float) -> tuple[int, ...]:
    """The channels with the largest norm, ascending; at least one.

    Args:
        program: Holds the weight's values.
        weight: Name of the weight.
        ratio: Share of the channels, in (0, 1].
    """
    axis = channel_axis(program, weight)
    values = np.moveaxis(np.asarray(program.values[weight], np.float64), axis, 0)
    norms = np.square(values.reshape(values.shape[0], -1)).sum(axis=1)
    count = max(1, round(ratio * len(norms)))
    strongest = np.argsort(-norms, kind="stable")[:count]
    return tuple(sorted(int(channel) for channel in strongest))


def check_channels(program: Program, weight: str, channels: tuple[int, ...], scheme: str) -> None:
    """Checks a choice of channels.

    Raises:
        UserError: None, unknown, repeated or descending ones.
    """
    count = channel_count(program, weight)
    ascending = all(a < b for a, b in pairwise(channels))
    if not channels or not ascending or channels[0] < 0 or channels[-1] >= count:
        raise UserError(
            f"scheme {scheme}: channels {list(channels)} of {weight}; allowed: one or more of 0 to "
            f"{count - 1}, ascending"
        )
