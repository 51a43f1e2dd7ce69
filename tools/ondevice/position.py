"""Where a run is: what follows from the number of samples trained, alone."""

import secrets
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


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


def updates_due(trained: int, total_steps: int, accumulation_steps: int) -> int:
    """Returns how many updates belong before the next sample.

    The last one may be of fewer samples than `accumulation_steps`.
    """
    if trained >= total_steps:
        return -(-trained // accumulation_steps)
    return trained // accumulation_steps
