"""What an attack is given and what it returns; the table of attacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ondevice.privacy.network import Target

AttackName = Literal["dlg", "idlg", "cosine"]


@dataclass(frozen=True, eq=False)
class Problem:
    """One update to be inverted.

    Attributes:
        target: The update, in the network.
        shape: [batch, ...sample shape].
        classes: Of the network.
        labels: Inferred ones [batch]; None: the update does not tell them.
        label_smoothing: That the device trains with.
        low: Smallest value that a sample can have.
        high: Largest.
        centre: Mean of such samples, where the search begins.
        spread: Their standard deviation.
    """

    target: Target
    shape: tuple[int, ...]
    classes: int
    labels: NDArray[np.int64] | None
    label_smoothing: float
    low: float
    high: float
    centre: float
    spread: float


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What an attack found.

    Attributes:
        x: float32 [batch, ...sample shape], in the range of the data.
        labels: [batch].
        matching_loss: What is left of the attack's own objective.
        evaluations: Gradients of the network that it took.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.int64]
    matching_loss: float
    evaluations: int


Attack = Callable[[Problem, int, int], Reconstruction]
"""Of a problem, at most so many iterations, from a seed."""


def first_guess(problem: Problem, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise as samples [batch, ...sample shape], and as label logits [batch, classes]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(problem.shape, generator=generator)
    logits = torch.randn(problem.shape[0], problem.classes, generator=generator)
    return problem.centre + problem.spread * noise, logits


def targets(problem: Problem, labels: NDArray[np.int64]) -> torch.Tensor:
    """What cross entropy compares with, of labels [batch]: float32 [batch, classes]."""
    certain = torch.nn.functional.one_hot(torch.from_numpy(labels), problem.classes)
    spread = problem.label_smoothing
    return (1.0 - spread) * certain.to(torch.float32) + spread / problem.classes


def in_range(problem: Problem, x: torch.Tensor) -> NDArray[np.float32]:
    """Samples as an array, with values that the data can have."""
    found = torch.nan_to_num(x.detach(), nan=problem.centre)
    return np.asarray(found.clamp(problem.low, problem.high).numpy(), np.float32)


def attack_of(name: AttackName) -> tuple[Attack, int]:
    """An attack, and the iterations that it takes where nobody says how many."""
    from ondevice.privacy import cosine, dlg, idlg

    modules = {"dlg": dlg, "idlg": idlg, "cosine": cosine}
    module = modules[name]
    return module.attack, module.ITERATIONS
