"""Where a run is: what follows from the number of samples trained, alone."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import UserError


def new_run_id() -> int:
    """Draws the number that tells this run from all others, not 0: the board keeps it."""
    return secrets.randbelow(2**64 - 1) + 1


def run_name(run: int) -> str:
    """Returns a run's id as files and people see it: 16 hexadecimal digits."""
    return f"{run:016x}"


def sample_order(samples: int, total_steps: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yields (epoch from 1, sample index): each epoch a new permutation from one seeded generator.

    The order depends on `samples` and `seed` only, so a longer run begins like a shorter one.
    """
    generator = np.random.default_rng(seed)
    step = 0
    epoch = 0
    while step < total_steps:
        epoch += 1
        for sample in generator.permutation(samples)[: total_steps - step]:
            step += 1
            yield epoch, int(sample)


def order_array(samples: int, total_steps: int, seed: int) -> NDArray[np.int64]:
    """Returns the sample of each step, [total_steps]: a run may go on anywhere."""
    chosen = (sample for _, sample in sample_order(samples, total_steps, seed))
    return np.fromiter(chosen, np.int64, total_steps)


@dataclass(frozen=True)
class Course:
    """All samples of a run, in order, and the updates between them.

    Attributes:
        order: [steps], the sample of each step.
        ends: [updates], steps trained before each update; equal neighbours: an update of none.
    """

    order: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def steps(self) -> int:
        """Samples, each counted as often as it is trained."""
        return len(self.order)

    @property
    def updates(self) -> int:
        """Of the whole run."""
        return len(self.ends)

    def updates_due(self, trained: int) -> int:
        """Returns how many updates belong before the next sample."""
        return int(np.searchsorted(self.ends, trained, side="right"))


def shuffled_course(samples: int, total_steps: int, accumulation_steps: int, seed: int) -> Course:
    """Every sample once an epoch; the last update may be of fewer than `accumulation_steps`."""
    ends = np.arange(accumulation_steps, total_steps + accumulation_steps, accumulation_steps)
    order = order_array(samples, total_steps, seed)
    return Course(order, np.minimum(ends, total_steps).astype(np.int64))


def poisson_course(samples: int, updates: int, lot: int, seed: int, run: int) -> Course:
    """Each update of a sample drawn anew: each of them with probability `lot` / `samples`.

    What differential privacy counts on (Abadi et al., 2016). Who guesses the draw knows whom an
    update is of: so it depends on the run's number, too, which is random and kept.

    Raises:
        UserError: There are fewer samples than a lot has.
    """
    if lot > samples:
        raise UserError(
            f"lots of {lot} samples (accumulation_steps), and only {samples} to draw from; "
            f"allowed: 2 to {samples}"
        )
    generator = np.random.default_rng([seed, run])
    lots = [np.flatnonzero(generator.random(samples) < lot / samples) for _ in range(updates)]
    order = np.concatenate([generator.permutation(each) for each in lots])
    return Course(order.astype(np.int64), np.cumsum([len(each) for each in lots], dtype=np.int64))
