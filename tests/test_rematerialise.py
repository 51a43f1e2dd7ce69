"""Activations computed again in backward: the same training step in less memory."""

from __future__ import annotations

from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import test_strips
from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.program import Program
from small_networks import Network

CAP = 0.2


class Blocks(nn.Module):  # type: ignore[misc]
    """Two inverted bottlenecks: wide maps between thin ones, cheap to compute again."""

    def __init__(self) -> None:
        super().__init__()
        self.expand1, self.expand2 = nn.Conv2d(2, 16, 1), nn.Conv2d(4, 16, 1)
        self.wide1 = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.wide2 = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.project1, self.project2 = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 4, 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project1(F.relu6(self.wide1(F.relu6(self.expand1(x)))))
        x = self.project2(F.relu6(self.wide2(F.relu6(self.expand2(x)))))
        return self.fc(x.mean((2, 3)))


def macs(program: Program) -> int:
    return sum(OPERATORS[step.op].macs(step, program) for step in program.steps)


def evaluated(text: str) -> str:
    """The listing of the forward pass alone."""
    return text[text.index("static int32_t evaluate(") : text.index("static int32_t train(")]


def test_computing_again_changes_no_bit_saves_memory_and_keeps_its_cap() -> None:
    with mock.patch.object(test_strips, "STAGE", Network(Blocks, (2, 10, 12))):
        plain, program = test_strips.compiled_stage()
        again, changed = test_strips.compiled_stage(remat_macs_cap=CAP)
        assert test_strips.outcome(again) == test_strips.outcome(plain)
    copies = [step for step in changed.steps if step.name.startswith("again/")]
    assert copies
    needed = [model.manifest["memory"]["arena_bytes"] for model in (plain, again)]
    assert needed[1] < needed[0]
    assert macs(program) < macs(changed) <= (1 + CAP) * macs(program)
    assert all(step.name not in evaluated(again.files["model.c"]) for step in copies)
    assert np.all([step.phase == "backward" for step in copies])
