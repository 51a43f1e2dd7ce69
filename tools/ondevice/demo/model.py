"""The demo's network: a one-dimensional CNN of some 5000 parameters, in PyTorch."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CHANNELS = 32


class WatchNet(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Classifies windows [n, 6, 100] of a smartwatch's motion into seven exercises."""

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.stem = nn.Conv1d(6, 16, 5, stride=2, padding=2)
        self.stem_norm: nn.Module = nn.BatchNorm1d(16)
        self.depthwise = nn.Conv1d(16, 16, 5, stride=2, padding=2, groups=16)
        self.depthwise_norm: nn.Module = nn.BatchNorm1d(16)
        self.pointwise = nn.Conv1d(16, CHANNELS, 1)
        self.pointwise_norm: nn.Module = nn.BatchNorm1d(CHANNELS)
        self.residual = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1)
        self.residual_norm: nn.Module = nn.BatchNorm1d(CHANNELS)
        self.head = nn.Linear(CHANNELS, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns logits [n, classes] of windows [n, 6, 100]."""
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.depthwise_norm(self.depthwise(x)))
        x = torch.relu(self.pointwise_norm(self.pointwise(x)))
        x = x + torch.relu(self.residual_norm(self.residual(x)))
        logits: torch.Tensor = self.head(x.mean(-1))
        return logits


def fold_batch_norm(model: WatchNet) -> None:
    """Moves every batch normalisation into its convolution, in place: a device has none."""
    model.eval()
    for name in ("stem", "depthwise", "pointwise", "residual"):
        norm = getattr(model, f"{name}_norm")
        setattr(model, name, fuse_conv_bn_eval(getattr(model, name), norm))
        setattr(model, f"{name}_norm", nn.Identity())
