"""The network of this project: `python model.py` writes model.onnx, which ondevice.toml names."""

import torch
from torch import nn

SIDE, CLASSES = 24, 3  # as [image] and data/ have them


def network() -> nn.Module:
    """Takes grey pictures [n, 1, height, width], gives a score for each class."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=1, padding=1, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (SIDE // 4) ** 2, CLASSES),
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    example = torch.zeros(1, 1, SIDE, SIDE)
    torch.onnx.export(network().eval(), (example,), "model.onnx", dynamo=False)
