"""Samples by L-BFGS on the L2 distance of gradients: the search of DLG and iDLG.

The distance is divided by the squared norm of what is matched, so that tolerances mean the same for
every network and row. Other than the papers' code, steps are chosen by a line search (strong
Wolfe): it converges in a tenth of the evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ondevice.privacy.network import Target

HISTORY = 100
EVALUATIONS_AN_ITERATION = 1.5
SMALLEST_NORM = 1e-30


def match(
    target: Target,
    x: torch.Tensor,
    labels: Callable[[], torch.Tensor],
    unknowns: Sequence[torch.Tensor],
    iterations: int,
) -> tuple[float, int]:
    """Changes the unknowns in place; returns the relative distance left, and evaluations.

    Args:
        target: What their gradients shall be.
        x: [batch, ...sample shape].
        labels: Gives [batch, classes], probabilities.
        unknowns: Leaves that may change: x, and what the labels are made of.
        iterations: At most.
    """
    scale = 1.0 / max(target.squares(), SMALLEST_NORM)
    count = 0

    def distance() -> torch.Tensor:
        nonlocal count
        count += 1
        found = target.network.gradients(x, labels(), create_graph=True)
        parts = [
            ((gradient - value) * known).square().sum()
            for gradient, value, known in zip(found, target.values, target.known, strict=True)
        ]
        return scale * torch.stack(parts).sum()

    def closure() -> torch.Tensor:
        loss = distance()
        for unknown, slope in zip(unknowns, torch.autograd.grad(loss, unknowns), strict=True):
            unknown.grad = slope
        return loss.detach()

    optimizer = torch.optim.LBFGS(
        list(unknowns),
        lr=1.0,
        max_iter=iterations,
        max_eval=int(EVALUATIONS_AN_ITERATION * iterations),
        history_size=HISTORY,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-9,
        tolerance_change=1e-11,
    )
    optimizer.step(closure)
    return float(distance().detach()), count
