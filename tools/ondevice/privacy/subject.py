"""Whose update is audited: a network with its data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ondevice.config import Config, with_overrides
from ondevice.data import Dataset, make_dataset
from ondevice.errors import UserError
from ondevice.sources import load_sources

if TYPE_CHECKING:
    from torch import nn

SubjectName = Literal["digits", "digits-relu", "watch"]
DIGITS_SIDE = 16
TRAINING_DIGITS = 1400
INITIAL_BOUND = 0.5


@dataclass(frozen=True, eq=False)
class Subject:
    """A network to audit.

    Attributes:
        name: Of results.
        config: Names its .pt2 file and its data.
        data: As the model takes it.
    """

    name: str
    config: Config
    data: Dataset

    @property
    def file(self) -> Path:
        """The program saved by `torch.export.save`."""
        assert self.config.model.file is not None
        return self.config.model.file


def own_subject(config: Config) -> Subject:
    """The user's network and data.

    Raises:
        UserError: It is no .pt2 file, or its data is missing or wrong.
    """
    file = config.model.file
    if file is None or file.suffix != ".pt2":
        raise UserError(
            f"{file}: an audit differentiates the network in PyTorch, so it needs a .pt2 file; in "
            "Python: torch.export.save(torch.export.export(module.eval(), (x,)), 'model.pt2')"
        )
    data = load_sources(config).data
    if data.y.dtype != np.int64:
        raise UserError(
            f"{data.source}: y holds float targets; an audit takes class labels and cross entropy"
        )
    return Subject(file.stem, config, data)


def built_in_subject(name: SubjectName, config: Config, build_root: Path) -> Subject:
    """One of the networks that come along.

    Args:
        name: Which.
        config: Settings to lay its files into.
        build_root: Where they are written, by content.

    Raises:
        UserError: What it is made of is not installed.
    """
    import torch

    from ondevice.api.inputs import data_file, module_file

    if name == "watch":
        from ondevice.sources import demo_dataset

        network, data = watch_network(), demo_dataset()
    else:
        data = digits()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = smooth_network() if name == "digits" else relu_network()
    with torch.no_grad():
        files = {
            "model": {"file": module_file(network, data.x[0], build_root)},
            "data": {"file": data_file(data, build_root, config.data.test_share)},
        }
    return Subject(name, with_overrides(config, files, "ondevice privacy audit"), data)


def digits() -> Dataset:
    """Handwritten digits of scikit-learn, 8x8, enlarged to [1, 16, 16], values 0 to 1.

    Raises:
        UserError: scikit-learn is not installed.
    """
    import torch

    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "the digits to audit with are in scikit-learn, which is not installed: "
            "pip install 'ondevice-training[tune]', or give --model and --data"
        ) from error
    found = load_digits()
    small = torch.from_numpy(found.images[:, None] / 16.0)
    large = torch.nn.functional.interpolate(small, size=DIGITS_SIDE, mode="bilinear")
    x, y = large.numpy().astype(np.float32), np.asarray(found.target, np.int64)
    return make_dataset(
        {
            "x": x[:TRAINING_DIGITS],
            "y": y[:TRAINING_DIGITS],
            "x_test": x[TRAINING_DIGITS:],
            "y_test": y[TRAINING_DIGITS:],
            "class_names": np.array([str(digit) for digit in range(10)]),
        },
        "digits",
    )


def smooth_network() -> nn.Module:
    """The LeNet of DLG (Zhu et al. 2019) for [1, 16, 16]: sigmoids, weights in -0.5 to 0.5.

    Untrained, as in the paper: a first round gives most away.
    """
    import torch
    from torch import nn

    network = nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, padding=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(192, 10),
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-INITIAL_BOUND, INITIAL_BOUND)
    return network


def relu_network() -> nn.Module:
    """A usual small network for [1, 16, 16]: ReLU and max pools, PyTorch's initial weights."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 12, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(192, 10),
    )


def watch_network() -> nn.Module:
    """The demo's pretrained network, its weights read from watch.onnx."""
    import onnx
    import torch

    from ondevice.demo.model import WatchNet, fold_batch_norm
    from ondevice.sources import demo_model

    network = WatchNet()
    fold_batch_norm(network)
    stored = {
        item.name: onnx.numpy_helper.to_array(item)
        for item in onnx.load(demo_model()).graph.initializer
    }
    state: dict[str, Any] = {
        name: torch.from_numpy(_array_of(stored, name)) for name in network.state_dict()
    }
    network.load_state_dict(state)
    return network


def _array_of(stored: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name not in stored:
        raise UserError(f"watch.onnx has no tensor {name!r}; give --model and --data instead")
    return stored[name].copy()
