"""Noise and pruning on a dense update, as Zhu et al. sweep them (2019, section 5).

They act on the gradient on the host, so that one compiled model serves a whole sweep. What the
device itself does (schemes, int8, compression) needs none of this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ondevice.privacy.update import Update, whole

Kind = Literal["gaussian", "laplace", "prune"]


@dataclass(frozen=True)
class Defence:
    """What is done to the gradient before it is sent.

    Attributes:
        kind: Which.
        amount: Of noise: variance of each element, in the gradient's own units (as in the paper,
            not relative to its size). Of pruning: share that is left out.
    """

    kind: Kind
    amount: float

    def apply(self, update: Update, seed: int) -> Update:
        """Returns what the attacker would get.

        Args:
            update: Dense.
            seed: Of the noise.
        """
        if self.kind == "prune":
            return _prune(update, self.amount)
        generator = np.random.default_rng(seed)
        deviation = self.amount**0.5
        noisy = tuple(
            gradient
            + (
                generator.normal(0, deviation, gradient.shape)
                if self.kind == "gaussian"
                else generator.laplace(0, deviation / 2**0.5, gradient.shape)
            )
            for gradient in update.gradients
        )
        return replace(update, gradients=noisy, sent=whole(noisy))


def _prune(update: Update, share: float) -> Update:
    """Keeps the largest elements of the whole gradient; at least one."""
    magnitudes = np.concatenate([np.abs(g).reshape(-1) for g in update.gradients])
    kept = max(round(len(magnitudes) * (1 - share)), 1)
    order = np.argsort(-magnitudes, kind="stable")
    mask = np.zeros(len(magnitudes), np.bool_)
    mask[order[:kept]] = True
    ends = np.cumsum([g.size for g in update.gradients])[:-1]
    masks = [
        m.reshape(g.shape) for m, g in zip(np.split(mask, ends), update.gradients, strict=True)
    ]
    return replace(
        update,
        gradients=tuple(np.where(m, g, 0.0) for m, g in zip(masks, update.gradients, strict=True)),
        sent=tuple(m & s for m, s in zip(masks, update.sent, strict=True)),
    )
