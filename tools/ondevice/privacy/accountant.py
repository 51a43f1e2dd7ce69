"""What a run of DP-SGD promises: epsilon at a delta (Abadi et al., 2016), by dp-accounting.

Each update is a Gaussian mechanism on a lot into which every sample comes with the same
probability, independently (`ondevice.position.poisson_course` draws so). Its privacy loss is
composed over the updates as a distribution (Koskela et al., 2020; Doroshenko et al., 2022).
Neighbours are two sets of which one has one sample more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ondevice.errors import UserError

LARGEST_DELTA = 1e-5
MOST_NOISE, PRECISION = 1000.0, 5e-3
MEANINGFUL = 50.0
"""Of epsilon: beyond it the faster and looser bound is told, by Rényi's divergence."""

ORDERS = (*range(2, 64), *range(64, 512, 16))


@dataclass(frozen=True)
class Mechanism:
    """What the samples go through.

    Attributes:
        samples: From which lots are drawn.
        lot: Samples that an update has on average, at most `samples`.
        updates: Of the run.
    """

    samples: int
    lot: int
    updates: int

    def __post_init__(self) -> None:
        if not 1 <= self.lot <= self.samples:
            raise UserError(
                f"lots of {self.lot} samples of {self.samples}; allowed: 1 to {self.samples}"
            )

    @property
    def sampling_probability(self) -> float:
        """Of each sample, in each update."""
        return self.lot / self.samples


def usual_delta(samples: int) -> float:
    """A tenth of one sample's share, 1e-5 at most."""
    return min(LARGEST_DELTA, 0.1 / samples)


def epsilon(
    mechanism: Mechanism, noise_multiplier: float, delta: float, sampled: bool = True
) -> float:
    """Computes what a run spends.

    Args:
        mechanism: Samples, lots, updates.
        noise_multiplier: Standard deviation of the noise, in units of one sample's limit.
        delta: In (0, 1).
        sampled: Who attacks does not know which samples came into which lot; if they do, every
            sample counts as in every lot, which is an upper bound for any order of samples.

    Returns:
        Epsilon, an upper bound; infinite without noise.

    Raises:
        UserError: dp-accounting is not installed, or delta is out of range.
    """
    if not 0 < delta < 1:
        raise UserError(f"delta {delta}; allowed: above 0 and below 1")
    if mechanism.updates == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    dp = _dp_accounting()
    if not sampled or mechanism.lot == mechanism.samples:  # as one Gaussian of less noise
        composed = noise_multiplier / math.sqrt(mechanism.updates)
        return float(dp.get_epsilon_gaussian(composed, delta))
    loose = _loose_epsilon(mechanism, noise_multiplier, delta)
    if loose > MEANINGFUL:
        return loose
    accountant = dp.pld.PLDAccountant(dp.NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(_update(mechanism, noise_multiplier), mechanism.updates)
    return float(accountant.get_epsilon(delta))


def _loose_epsilon(mechanism: Mechanism, noise_multiplier: float, delta: float) -> float:
    """An upper bound in a fraction of the time (Mironov, 2017)."""
    dp = _dp_accounting()
    accountant = dp.rdp.RdpAccountant(ORDERS)
    accountant.compose(_update(mechanism, noise_multiplier), mechanism.updates)
    return float(accountant.get_epsilon(delta))


def _update(mechanism: Mechanism, noise_multiplier: float) -> Any:
    dp = _dp_accounting()
    gaussian = dp.GaussianDpEvent(noise_multiplier)
    return dp.PoissonSampledDpEvent(mechanism.sampling_probability, gaussian)


def noise_for(mechanism: Mechanism, target_epsilon: float, delta: float) -> float:
    """The least noise multiplier that keeps a run within an epsilon, to 0.5 %, from above.

    Raises:
        UserError: No noise does.
    """
    if not 0 < target_epsilon < math.inf:
        raise UserError(f"target epsilon {target_epsilon}; allowed: above 0")
    enough = _bisected(
        lambda noise: _loose_epsilon(mechanism, noise, delta) <= target_epsilon, 0.1, MOST_NOISE
    )
    if enough is None:
        raise UserError(
            f"epsilon {target_epsilon} at delta {delta} needs noise beyond {MOST_NOISE:g}; ask for "
            "more, or train less"
        )
    return (
        _bisected(
            lambda noise: epsilon(mechanism, noise, delta) <= target_epsilon, 0.7 * enough, enough
        )
        or enough
    )


def _bisected(holds: Callable[[float], bool], low: float, high: float) -> float | None:
    """The least argument for which something holds that holds above it; None: it never does."""
    if not holds(high):
        return None
    while high > low * (1 + PRECISION):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def spent(optimizer: dict[str, Any], samples: int, updates: int) -> dict[str, Any] | None:
    """Figures of a run for its summary; None where it was not DP-SGD.

    Args:
        optimizer: Of the manifest.
        samples: That it was trained on.
        updates: That it made.
    """
    clip_norm = optimizer.get("dp_clip_norm")
    if clip_norm is None:
        return None
    mechanism = Mechanism(samples, int(optimizer["accumulation_steps"]), updates)
    noise, delta = float(optimizer["dp_noise_multiplier"]), usual_delta(samples)
    found = {True: math.inf, False: math.inf}
    if noise:
        with suppress(UserError):  # where the extra is missing: the run itself needs it not
            found = {known: epsilon(mechanism, noise, delta, known) for known in found}
    return {
        "clip_norm": clip_norm,
        "noise_multiplier": noise,
        "lot": mechanism.lot,
        "sampling_probability": mechanism.sampling_probability,
        "updates": updates,
        "delta": delta,
        "epsilon": _finite(found[True]),
        "epsilon_lots_known": _finite(found[False]),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _dp_accounting() -> Any:
    try:
        import dp_accounting
        import dp_accounting.pld
        import dp_accounting.rdp
    except ImportError as error:
        raise UserError(
            f"the privacy accountant needs dp-accounting, which is not installed ({error}): "
            "pip install 'ondevice-training[privacy]'"
        ) from error
    return dp_accounting
