"""Trained parameters put back into a torch module: imported again, they are the trained ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from elementwise_networks import ELEMENTWISE
from ondevice_compiler.load import load_model
from ondevice_compiler.load.trained_module import trained_state
from sequence_networks import SEQUENCE_NETWORKS
from small_networks import NETWORKS as SMALL
from small_networks import Network

NETWORKS: dict[str, Network] = {**SMALL, **ELEMENTWISE, **SEQUENCE_NETWORKS}


@pytest.mark.parametrize("name", ["inverted", "pools", "decoder", "encoder"])
def test_what_was_put_back_is_imported_as_what_was_trained(tmp_path: Path, name: str) -> None:
    generator = np.random.default_rng(0)
    network = NETWORKS[name]
    torch.manual_seed(0)
    module = network.build().eval()
    for buffer, values in module.named_buffers():
        if "running" in buffer:  # a batch norm that has seen data
            values.uniform_(0.5, 1.5)
    before = _export(module, network, tmp_path / "before.pt2")
    loaded = load_model(before)
    trained = {
        key: (values + generator.normal(scale=0.1, size=values.shape)).astype(np.float32)
        for key, values in loaded.parameters.items()
        if key not in loaded.frozen
    }
    module.load_state_dict(trained_state(before, "full", trained, {}))
    again = load_model(_export(module, network, tmp_path / "after.pt2")).parameters
    assert trained
    for key, values in trained.items():
        np.testing.assert_allclose(again[key], values, rtol=1e-4, atol=1e-5, err_msg=key)


def _export(module: torch.nn.Module, network: Network, path: Path) -> Path:
    example = torch.from_numpy(network.samples(1))
    torch.export.save(torch.export.export(module, (example,)), path)
    return path
