"""Deep Leakage from Gradients: sample and label together, by L-BFGS on the L2 distance.

L. Zhu, Z. Liu, S. Han, "Deep Leakage from Gradients", NeurIPS 2019, algorithm 1.
"""

from __future__ import annotations

import numpy as np

from ondevice.privacy.attack import Problem, Reconstruction, first_guess, in_range
from ondevice.privacy.gradient_match import match

ITERATIONS = 300


def attack(problem: Problem, iterations: int, seed: int) -> Reconstruction:
    """Inverts an update; uses no inferred label."""
    x, logits = (guess.requires_grad_() for guess in first_guess(problem, seed))
    left, evaluations = match(
        problem.target, x, lambda: logits.softmax(-1), [x, logits], iterations
    )
    labels = np.asarray(logits.detach().argmax(-1).numpy(), np.int64)
    return Reconstruction(in_range(problem, x), labels, left, evaluations)
