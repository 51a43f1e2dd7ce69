"""DP-SGD (Abadi et al., 2016): each sample's gradient is clipped by itself, and noise is added.

The gradients of one sample are kept, real and in float32, until the last of them is there; then
they are clipped together and added to sums of integers. Noise of the same integers comes before an
update:

    units   = NOISE_DEVIATION / (noise_multiplier * clip_norm)     integers of a sum in 1.0
    sum    += truncate(gradient * units * min(1, clip_norm / norm))
    update by (sum + noise) / (units * lot)

The noise has one standard deviation, whatever is asked for: the unit follows. See
docs/privacy-dp.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ondevice_compiler.program import Step, Tensor

NOISE_KEY = "noise_key"  # The tensor that holds it.
NOISE_KEY_WORDS = 8
NOISE_DEVIATION = 24 * math.sqrt((1 + 16**2) * (1 + 256**2))  # of od_noise() in noise.h
LARGEST_SUM = 2**30  # where the sums stop: private_sum.h
FINEST = 2**20  # integers in clip_norm where there is no noise
MARGIN = 2.0**-20  # for the roundings of the norm and its factor


@dataclass(frozen=True)
class PrivateSum:
    """What one sample may add to the sums, and the noise on them.

    Attributes:
        clip_norm: Largest norm of one sample's gradient over all trained parameters, above 0.
        noise_multiplier: Standard deviation of the noise in units of `clip_norm`; 0: none.
        lot: Samples that a sum is divided by, however many there were.
    """

    clip_norm: float
    noise_multiplier: float
    lot: int

    @property
    def units(self) -> float:
        """Integers of a sum in a gradient of 1."""
        if self.noise_multiplier > 0:
            return NOISE_DEVIATION / (self.noise_multiplier * self.clip_norm)
        return float(min(FINEST, LARGEST_SUM // self.lot)) / self.clip_norm

    @property
    def least_multiplier(self) -> float:
        """The least noise for which the sums of a lot hold."""
        return NOISE_DEVIATION * self.lot / LARGEST_SUM

    @property
    def factor(self) -> float:
        """Mean gradient of one integer of a sum."""
        return 1.0 / (self.units * self.lot)

    def sample_gradient(self, tensors: dict[str, Tensor], parameter: str) -> str:
        """Declares what holds one sample's gradient, in the arena, and names it."""
        name = f"d.{parameter}.real"
        tensors[name] = replace(
            tensors[parameter], name=name, kind="gradient", dtype="float32", trainable=False
        )
        return name

    def sum_step(self, gradients: tuple[str, ...], sums: tuple[str, ...]) -> Step:
        """Clips one sample's gradients and adds them to the sums."""
        step = Step("update/private", "private_sum", (*gradients, *sums), sums, phase="update")
        limit = self.clip_norm * (1.0 - MARGIN)
        return step.with_attributes(real=True, limit=limit, units=self.units)

    def noise_step(self, sums: tuple[str, ...]) -> Step | None:
        """Adds noise to the sums; None where there is none."""
        if self.noise_multiplier == 0:
            return None
        step = Step("apply/noise", "private_noise", (*sums, NOISE_KEY), sums, phase="apply")
        return step.with_attributes(real=True)


def noise_key() -> Tensor:
    """The key that the host gives; all zeros: none yet."""
    return Tensor(NOISE_KEY, (NOISE_KEY_WORDS,), "uint32", "state", trainable=True)


def sum_tensor(tensors: dict[str, Tensor], parameter: str) -> str:
    """Declares the integer sum of a parameter's gradient and names it."""
    name = f"{parameter}.sum"
    tensors[name] = replace(
        tensors[parameter], name=name, kind="state", dtype="int32", trainable=True
    )
    return name
