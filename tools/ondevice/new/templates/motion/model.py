"""The network of this project: `python model.py` writes model.onnx, which ondevice.toml names."""

import torch
from torch import nn

CHANNELS, WINDOW, CLASSES = 3, 64, 3  # as [window] and data/ have them


def network() -> nn.Module:
    """Takes windows [n, channels, samples], gives a score for each class."""
    return nn.Sequential(
        nn.Conv1d(CHANNELS, 8, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv1d(8, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * WINDOW // 4, CLASSES),
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    example = torch.zeros(1, CHANNELS, WINDOW)
    # Train it here first if you have data of many people: the device then only adapts it.
    torch.onnx.export(network().eval(), (example,), "model.onnx", dynamo=False)
