"""Small torch networks with norms and attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from small_networks import CLASSES, Network


def shaken(module: nn.Module) -> None:
    """Affine parameters of norms away from 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.GroupNorm | nn.InstanceNorm2d | nn.LayerNorm):
            nn.init.normal_(layer.weight, 1.0, 0.3)
            nn.init.normal_(layer.bias, 0.0, 0.3)


class Groups(nn.Module):  # type: ignore[misc]
    """A group norm with a fused clip, an instance norm after one, and one group over all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.norm = nn.GroupNorm(3, 6)
        self.down = nn.Conv2d(6, 8, 3, stride=2)
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.whole = nn.GroupNorm(1, 8)
        self.fc = nn.Linear(8, CLASSES)
        shaken(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.norm(self.stem(x)))
        x = self.whole(self.instance(F.relu(self.down(x))))
        return self.fc(x.mean((2, 3)))


class Layers(nn.Module):  # type: ignore[misc]
    """Linear layers and layer norms over the steps of a sequence, with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.first = nn.LayerNorm(6)
        self.hidden = nn.Linear(6, 6)
        self.second = nn.LayerNorm(6)
        self.fc = nn.Linear(6, CLASSES)
        shaken(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.stem(x.transpose(1, 2)))
        x = self.second(x + F.relu(self.hidden(x)))
        return self.fc(x.mean(1))


SEQUENCE_NETWORKS = {
    "groups": Network(Groups, (2, 7, 9)),
    "layers": Network(Layers, (4, 7)),
}
