"""Small torch networks of elementwise functions, products, joins, slices and upsampling."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from small_networks import CLASSES, Network


class Decoder(nn.Module):  # type: ignore[misc]
    """Down and up again by every means; parts are cut, padded and joined."""

    def __init__(self, padded: bool = True) -> None:
        super().__init__()
        self.padded = padded
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 6, 3, stride=(2, 3))
        self.left = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.right = nn.ConvTranspose2d(2, 3, (2, 4), stride=(2, 1), padding=(0, 1))
        self.last = nn.Conv2d(9, 4, 1)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.down(F.pad(x, (1, 1, 0, 1))))
        x = x + F.interpolate(y, scale_factor=(2, 3), mode="nearest")
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        a, b = torch.split(x, [4, 2], dim=1)
        a, b = F.relu(self.left(a))[:, :, 1:-1], self.right(b)[:, :, :-2]
        if self.padded:
            b = F.pad(b, (0, 1), value=0.5)
        x = torch.cat([a[:, :, :, 1 : 1 + b.shape[3]], b], dim=1)
        return self.fc(F.relu(self.last(x)).mean((2, 3)))


class Functions(nn.Module):  # type: ignore[misc]
    """One activation function after another, in 1-D; constants in between."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (
            nn.Conv1d(inputs, 6, 3, padding=1) for inputs in (2, 6, 6, 6)
        )
        self.e, self.f, self.g, self.h = (nn.Conv1d(6, 6, 1) for _ in range(4))
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.a(x))
        x = F.gelu(self.b(x))
        x = F.silu(self.c(x))
        x = F.gelu(self.d(x), approximate="tanh")
        x = F.leaky_relu(self.e(x), 0.2)
        x = F.elu(self.f(x))
        x = torch.tanh(2 * self.g(x)) / 0.5 - x
        x = F.hardsigmoid(self.h(x)) - F.relu(x) + 1.5
        return self.fc(x.mean(-1))


class Excited(nn.Module):  # type: ignore[misc]
    """Squeeze and excitation, a gate of two maps, and scales for each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.squeeze = nn.Conv2d(6, 3, 1)
        self.excite = nn.Conv2d(3, 6, 1)
        self.value = nn.Conv2d(6, 8, 3, stride=2)
        self.gate = nn.Conv2d(6, 8, 3, stride=2)
        self.register_buffer("scale", torch.tensor([1, -0.5, 2, 1.5, -1, 0.7, 0.1, 3]))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.stem(x))
        s = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        x = x * F.sigmoid(self.excite(s)).expand_as(x)
        x = torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x))
        return self.fc((F.relu(x) * self.scale.reshape(1, 8, 1, 1)).mean((2, 3)))


# TVM imports an ONNX Pad that is not part of a convolution as a kernel without its numbers.
UNPADDED = Network(partial(Decoder, padded=False), (2, 6, 9))
ELEMENTWISE = {
    "functions": Network(Functions, (2, 11)),
    "excited": Network(Excited, (2, 7, 8)),
    "decoder": Network(Decoder, (2, 6, 9)),
}
