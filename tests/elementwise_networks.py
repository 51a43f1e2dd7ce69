"""Small torch networks of elementwise functions, products, joins, slices and upsampling."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from small_networks import CLASSES, Network


class Decoder(nn.Module):  # type: ignore[misc]
    """Down and up again; the upsampled map meets the one it came from."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 6, 3, stride=(2, 3), padding=1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.down(x))
        x = x + F.interpolate(y, scale_factor=(2, 3), mode="nearest")
        return self.fc(x.mean((2, 3)))


ELEMENTWISE = {
    "decoder": Network(Decoder, (2, 6, 9)),
}
