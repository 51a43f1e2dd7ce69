"""The network of this project: `python model.py` writes model.onnx, which ondevice.toml names."""

import torch
from torch import nn

COLUMNS, CLASSES = 4, 3  # as data/leaves.csv has them


def network() -> nn.Module:
    """Takes rows [n, columns], gives a score for each class."""
    return nn.Sequential(nn.Linear(COLUMNS, 16), nn.ReLU(), nn.Linear(16, CLASSES))


if __name__ == "__main__":
    torch.manual_seed(1)
    torch.onnx.export(network().eval(), (torch.zeros(1, COLUMNS),), "model.onnx", dynamo=False)
