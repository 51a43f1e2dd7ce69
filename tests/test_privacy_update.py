"""The gradient that the audit takes from a device is the one that PyTorch computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ondevice.api.inputs import data_file, module_file
from ondevice.config import Config, with_overrides
from ondevice.privacy.device_update import DeviceUpdates
from ondevice.privacy.network import AttackedModule, Target
from small_networks import NETWORKS, labels

BATCH_NORMS = {"stem": "norm", "expand": "expand_norm"}  # of the network "inverted"
SPARSE = """
weights = ["fc", "stem"]
biases = "all"
[channels]
"expand" = [1, 3]
"""

Gradients = dict[str, NDArray[Any]]


def torch_gradients(module: torch.nn.Module, x: NDArray[np.float32], y: NDArray[Any]) -> Gradients:
    """Of the mean cross entropy, by the module's names."""
    module.zero_grad()
    torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    found = {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    state = {name: values.detach().numpy() for name, values in module.state_dict().items()}
    for layer, norm in BATCH_NORMS.items():
        if f"{norm}.running_var" in state:
            # The device trains the folded weight, which is gamma / deviation times the module's.
            deviation = np.sqrt(state[f"{norm}.running_var"] + 1e-5)
            factor = deviation / state[f"{norm}.weight"]
            found[f"{layer}.weight"] = found[f"{layer}.weight"] * factor.reshape(-1, 1, 1, 1)
    return found


def sent(
    name: str, folder: Path, batch: int = 1, **options: object
) -> tuple[Target, Gradients, tuple[str, ...]]:
    """What a board sends of the first samples, and PyTorch's gradient of them."""
    network, samples = NETWORKS[name], 24
    module, x, y = network.module(), network.samples(samples), labels(samples)
    files = {
        "model": {"file": module_file(module, x[0], folder)},
        "data": {"file": data_file((x, y, x[:2], y[:2]), folder, 0.2)},
    }
    config = with_overrides(Config(), files, "test")
    assert config.model.file is not None
    attacked = AttackedModule.load(config.model.file)
    with DeviceUpdates(config, {**options, "accumulation_steps": batch}, folder) as board:
        update = board.train(x[:batch], y[:batch], learning_rate=0.1)
    return attacked.target(update), torch_gradients(module, x[:batch], y[:batch]), update.names


@pytest.mark.parametrize(("name", "batch"), [("pools", 1), ("wearer", 3)])
def test_the_float32_update_of_a_device_is_the_gradient_of_autograd(
    tmp_path: Path, name: str, batch: int
) -> None:
    target, gradients, _ = sent(name, tmp_path, batch, dtype="float32")
    assert set(target.names) == set(gradients)
    for key, values, known in zip(target.names, target.values, target.known, strict=True):
        assert bool(known.all())
        scale = float(np.abs(gradients[key]).max())
        np.testing.assert_allclose(
            values.numpy(), gradients[key], rtol=1e-4, atol=1e-5 * max(scale, 1.0), err_msg=key
        )


def test_what_a_sparse_scheme_trains_lies_where_autograd_has_it(tmp_path: Path) -> None:
    (tmp_path / "sparse.toml").write_text(SPARSE)
    scheme = f"sparse:{tmp_path / 'sparse.toml'}"
    target, gradients, names = sent("inverted", tmp_path, dtype="float32", scheme=scheme)
    assert "expand.weight" in names
    assert "depthwise.weight" not in target.names
    for key, values, known in zip(target.names, target.values, target.known, strict=True):
        if key == "expand.weight":
            trained = np.isin(np.arange(values.shape[1]), [1, 3])
            expected = np.broadcast_to(trained[None, :, None, None], values.shape)
            assert np.array_equal(known.numpy() > 0, expected)
        mask = known.numpy()
        np.testing.assert_allclose(
            values.numpy(), gradients[key] * mask, rtol=1e-4, atol=1e-5, err_msg=key
        )


def test_the_int8_update_points_along_the_gradient_of_autograd(tmp_path: Path) -> None:
    target, gradients, _ = sent("perceptron", tmp_path, dtype="int8")
    found = np.concatenate([values.numpy().reshape(-1) for values in target.values])
    true = np.concatenate([gradients[key].reshape(-1) for key in target.names])
    assert found @ true > 0.95 * np.linalg.norm(found) * np.linalg.norm(true)
    assert not np.allclose(found, true, rtol=1e-5, atol=1e-7)  # it is no simulation in float
