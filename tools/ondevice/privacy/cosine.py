"""Inverting Gradients: the direction of the gradient alone, with a prior of smooth pictures.

J. Geiping, H. Bauermeister, H. Droege, M. Moeller, "Inverting Gradients - How easy is it to break
privacy in federated learning?", NeurIPS 2020: 1 - cosine similarity plus total variation, Adam on
the sign of the slope, values kept in the data's range, the rate divided by 10 after 3/8, 5/8 and
7/8 of the iterations.
"""

from __future__ import annotations

import math

import torch

from ondevice.privacy.attack import Problem, Reconstruction, first_guess, in_range, targets
from ondevice.privacy.network import Target

ITERATIONS = 400
LEARNING_RATE = 0.1  # of the data's standard deviation
TOTAL_VARIATION = 1e-3
DECAYS = (3 / 8, 5 / 8, 7 / 8)


def attack(problem: Problem, iterations: int, seed: int) -> Reconstruction:
    """Inverts an update; where it does not tell the labels, they are searched for, too."""
    x, logits = first_guess(problem, seed)
    x = x.clamp(problem.low, problem.high).requires_grad_()
    logits.requires_grad_()
    known = problem.labels
    inferred = targets(problem, known) if known is not None else None
    unknowns = [x] if inferred is not None else [x, logits]
    rate = LEARNING_RATE * problem.spread
    optimizer = torch.optim.Adam([{"params": [x], "lr": rate}, {"params": [logits]}], lr=0.1)
    milestones = [math.ceil(iterations * share) for share in DECAYS]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.1)

    def distance() -> torch.Tensor:
        wanted = inferred if inferred is not None else logits.softmax(-1)
        return _one_minus_cosine(problem.target, x, wanted)

    for _ in range(iterations):
        loss = distance() + TOTAL_VARIATION * total_variation(x) / problem.spread
        for unknown, slope in zip(unknowns, torch.autograd.grad(loss, unknowns), strict=True):
            unknown.grad = slope.sign()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            x.clamp_(problem.low, problem.high)
    labels = known if known is not None else logits.detach().argmax(-1).numpy()
    left = float(distance().detach())
    return Reconstruction(in_range(problem, x), labels, left, iterations + 1)


def _one_minus_cosine(target: Target, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    found = target.network.gradients(x, labels, create_graph=True)
    product, squares, wanted = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for gradient, value, known in zip(found, target.values, target.known, strict=True):
        product = product + (gradient * value).sum()
        squares = squares + (gradient * known).square().sum()
        wanted = wanted + value.square().sum()
    return 1 - product / (squares * wanted + 1e-30).sqrt()


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Mean magnitude of the steps to neighbours along time, or rows and columns.

    Args:
        x: [batch, n] (no neighbours: 0), [batch, channels, time], or [batch, channels, rows,
            columns].
    """
    total = torch.zeros(())
    for axis in range(2, x.ndim):
        total = total + x.diff(dim=axis).abs().mean()
    return total
