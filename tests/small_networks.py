"""Small torch networks that together use every operator, and the data to compile them with."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import nn

from native_model import NativeModel
from ondevice_compiler import CompileOptions, compile_model
from ondevice_compiler.compile import CompiledModel
from ondevice_compiler.plan import Plan
from ondevice_compiler.program import Program

# The module, which the package's attribute `compile` need not be.
compile_stage = importlib.import_module("ondevice_compiler.compile")

CLASSES = 5


class Wearer(nn.Module):  # type: ignore[misc]
    """1-D: strided, depthwise and pointwise convolutions, a residual, both pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 5, stride=2, padding=2)
        self.depthwise = nn.Conv1d(8, 8, 7, padding=3, groups=8)
        self.pointwise = nn.Conv1d(8, 8, 1)
        self.head = nn.Conv1d(8, 12, 3, stride=2, padding=1)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = x + F.relu6(self.pointwise(F.relu(self.depthwise(x))))
        x = F.relu(self.head(F.max_pool1d(x, 2)))
        return self.fc(x.mean(-1))


class Residual(nn.Module):  # type: ignore[misc]
    """2-D, asymmetric: both branches of an addition have layers, and a map is read three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.left = nn.Conv2d(6, 6, (1, 3), padding=(0, 1))
        self.right = nn.Conv2d(6, 6, 5, padding=2, groups=2)
        self.down = nn.Conv2d(6, 8, 3, stride=(2, 1), padding=1)
        self.shortcut = nn.Conv2d(6, 8, 1, stride=(2, 1))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        y = F.relu(self.left(x) + self.right(x)) + x
        z = F.relu(self.down(y)) + self.shortcut(y)
        return self.fc(F.adaptive_avg_pool2d(z, 1).flatten(1))


class Pools(nn.Module):  # type: ignore[misc]
    """Overlapping and padded pools that meet, then two linear layers after a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 7, stride=2, padding=3)
        self.fc1 = nn.Linear(4 * 3 * 4, 9)
        self.fc = nn.Linear(9, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.stem(x))
        x = F.max_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1)
        return self.fc(F.relu(self.fc1(torch.flatten(x, 1))))


class Inverted(nn.Module):  # type: ignore[misc]
    """MobileNet's inverted residual with batch norm; the block's last layer has no clip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.expand = nn.Conv2d(4, 12, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(12)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.project = nn.Conv2d(12, 4, 1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.norm(self.stem(x)))
        y = F.relu6(self.expand_norm(self.expand(x)))
        x = x + self.project(F.relu6(self.depthwise(y)))
        return self.fc(self.dropout(x.mean((2, 3))))


class Perceptron(nn.Module):  # type: ignore[misc]
    """Linear layers alone; a vector in."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(10, 16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.hidden(x)))


@dataclass(frozen=True)
class Network:
    """A network and the shape of one sample."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def module(self, seed: int = 0) -> nn.Module:
        """In evaluation mode, batch norms with statistics and trained as constants."""
        torch.manual_seed(seed)
        module = self.build().eval()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean = torch.randn_like(layer.running_mean) * 0.1
                layer.running_var = torch.rand_like(layer.running_var) + 0.5
        return module

    def samples(self, count: int, seed: int = 0) -> NDArray[np.float32]:
        """Random samples."""
        generator = np.random.default_rng(seed)
        return generator.standard_normal((count, *self.shape)).astype(np.float32)


NETWORKS = {
    "wearer": Network(Wearer, (3, 40)),
    "residual": Network(Residual, (2, 7, 9)),
    "pools": Network(Pools, (1, 11, 16)),
    "inverted": Network(Inverted, (3, 10, 8)),
    "perceptron": Network(Perceptron, (10,)),
}


def labels(count: int) -> NDArray[np.int64]:
    """Class indices, every class in turn."""
    return np.arange(count) % CLASSES


def targets(count: int) -> NDArray[np.float32]:
    """Targets of a regression."""
    generator = np.random.default_rng(1)
    return generator.standard_normal((count, CLASSES)).astype(np.float32)


def answers(loss: str, count: int) -> NDArray[Any]:
    """What a loss compares with: classes, targets, or targets in 0 to 1."""
    if loss == "cross_entropy":
        return labels(count)
    chosen = targets(count)
    return chosen if loss == "mse" else np.clip(chosen + np.float32(0.5), 0, 1)


@dataclass(frozen=True)
class Compilation:
    """What the compiler made of a network, and the stages it came from."""

    model: CompiledModel
    program: Program
    plan: Plan
    histories: dict[str, float]

    def native(self) -> NativeModel:
        """Running in this process."""
        return NativeModel(self.model.files, self.model.manifest)


def compiled(name: str, **options: Any) -> Compilation:
    """One of the networks above; see `compiled_network`."""
    return compiled_network(NETWORKS[name], **options)


@cache
def compiled_network(network: Network, **options: Any) -> Compilation:
    """A network compiled with random data; a regression gets random targets."""
    y = answers(options.get("loss", "cross_entropy"), 32)
    with mock.patch.object(compile_stage, "emit", wraps=compile_stage.emit) as spy:
        made = compile_model(network.module(), network.samples(32), y, CompileOptions(**options))
    lowered, plan, histories = spy.call_args.args[:3]
    return Compilation(made, lowered.program, plan, histories)
