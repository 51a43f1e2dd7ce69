"""Improved DLG: the label is read off the last layer's gradient, the sample found as in DLG.

B. Zhao, K. R. Mopuri, H. Bilen, "iDLG: Improved Deep Leakage from Gradients", 2020. For several
samples the labels are those of Yin et al. (labels.py).
"""

from __future__ import annotations

from ondevice.privacy import dlg
from ondevice.privacy.attack import Problem, Reconstruction, first_guess, in_range, targets
from ondevice.privacy.gradient_match import match

ITERATIONS = 300


def attack(problem: Problem, iterations: int, seed: int) -> Reconstruction:
    """Inverts an update; where it does not tell the labels, they are searched for as in DLG."""
    if problem.labels is None:
        return dlg.attack(problem, iterations, seed)
    x = first_guess(problem, seed)[0].requires_grad_()
    wanted = targets(problem, problem.labels)
    left, evaluations = match(problem.target, x, lambda: wanted, [x], iterations)
    return Reconstruction(in_range(problem, x), problem.labels, left, evaluations)
