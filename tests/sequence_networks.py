"""Small torch networks with norms and attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from small_networks import CLASSES, Network

VOCABULARY = 11


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


class Attention(nn.Module):  # type: ignore[misc]
    """Tokens and positions, attention written with torch's product, a residual and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 8)
        self.places = nn.Parameter(torch.randn(1, 6, 8) * 0.3)
        self.query = nn.Linear(8, 8)
        self.key = nn.Linear(8, 8)
        self.value = nn.Linear(8, 8)
        self.out = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, CLASSES)
        shaken(self)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens) + self.places
        q, k, v = (
            layer(x).view(1, 6, 2, 4).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = self.attend(q, k, v).transpose(1, 2).reshape(1, 6, 8)
        return self.fc(self.norm(x + self.out(mixed)).mean(1))

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """[1, heads, T, d] of queries, keys and values."""
        return F.scaled_dot_product_attention(q, k, v)


class Encoder(nn.Module):  # type: ignore[misc]
    """Torch's own encoder layer, its positions embedded by a table."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 8)
        self.places = nn.Embedding(5, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, activation="relu", batch_first=True)
        self.fc = nn.Linear(8, CLASSES)
        shaken(self)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.words(tokens) + self.places(torch.arange(5))
        return self.fc(self.layer(x).mean(1))


class Bert(nn.Module):  # type: ignore[misc]
    """An encoder in the manner of BERT: two layers with GELU, mean pooling, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 32)
        self.places = nn.Embedding(16, 32)
        self.norm = nn.LayerNorm(32)
        layers = [
            nn.TransformerEncoderLayer(32, 4, 64, activation="gelu", batch_first=True)
            for _ in range(2)
        ]
        self.layers = nn.ModuleList(layers)
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.words(tokens) + self.places(torch.arange(16)))
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean(1))


@dataclass(frozen=True)
class TokenNetwork(Network):
    """A network that reads token indices."""

    def samples(self, count: int, seed: int = 0) -> Any:
        """Random tokens."""
        return np.random.default_rng(seed).integers(0, VOCABULARY, (count, *self.shape))


BERT = TokenNetwork(Bert, (16,))
SEQUENCE_NETWORKS = {
    "groups": Network(Groups, (2, 7, 9)),
    "layers": Network(Layers, (4, 7)),
    "attention": TokenNetwork(Attention, (6,)),
    "encoder": TokenNetwork(Encoder, (5,)),
}
