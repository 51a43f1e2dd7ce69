"""Networks other people made compile and train, in QEMU, as on the host board."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from zoo import NETWORKS, Network

from ondevice.compiled_model import ModelDirectory, load_model_directory
from ondevice.config import DeviceSettings, TrainingSettings
from ondevice.data import Dataset
from ondevice.outcome import TrainingOutcome
from ondevice.target import open_target, target_board
from ondevice.train import run_training
from ondevice_compiler import CompileOptions, compile_model

BUILD = Path(__file__).resolve().parent.parent / "build" / "tests"
STEPS = 2
SMALL_BOARD = {"mcunet-5fps", "mobilenetv2-w0.35", "mobilenetv1-vww", "resnet8", "ds-cnn"}


def available(name: str) -> Network:
    network = NETWORKS[name]
    if not network.available:
        pytest.skip(f"{network.model} is not here: it is shared data, not part of the product")
    return network


@cache
def sparse_model(name: str) -> ModelDirectory:
    """The network compiled with the scheme that fits a small board."""
    network = available(name)
    x, y = network.samples(4)
    options = CompileOptions(name=name, scheme=network.sparse, loss=network.loss, head=network.head)
    compiled = compile_model(network.source(), x, y, options)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder = BUILD / worker / name
    compiled.write(folder)
    return load_model_directory(folder)


@cache
def steps(name: str, board: str) -> TrainingOutcome:
    model = sparse_model(name)
    x, y = NETWORKS[name].samples(STEPS + 1, seed=1)
    settings = DeviceSettings(board=board)
    target = open_target(settings, target_board(settings), model, BUILD)
    data = Dataset(x[:STEPS], y[:STEPS], x[STEPS:], y[STEPS:], source=name)
    with target.device as device:
        training = TrainingSettings(steps=STEPS, learning_rate=NETWORKS[name].rate)
        return run_training(device, model.manifest, data, training)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_real_network_takes_the_same_training_steps_in_qemu_and_on_the_host(name: str) -> None:
    """In the RAM and flash of an STM32F405 where they hold it."""
    board = "qemu_f405" if name in SMALL_BOARD else "qemu_mps2_an386"
    host, simulated = steps(name, "host"), steps(name, board)
    assert np.all(np.isfinite(simulated.losses))
    assert len(set(simulated.losses)) == STEPS
    assert [bytes(p) for p in simulated.parameters] == [bytes(p) for p in host.parameters]
