"""The network of this project: `python model.py` writes model.onnx, which ondevice.toml names."""

import torch
from torch import nn

FRAMES, BANDS, CLASSES = 62, 20, 3  # as [window], [audio] and data/ have them


def network() -> nn.Module:
    """Takes log-mel features [n, 1, frames, bands], gives a score for each class."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 14 * 4, CLASSES),
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    example = torch.zeros(1, 1, FRAMES, BANDS)
    torch.onnx.export(network().eval(), (example,), "model.onnx", dynamo=False)
