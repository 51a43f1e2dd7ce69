"""The short form of `make fleet`: eight boards at once, a few steps each."""

import os
from pathlib import Path

import numpy as np
from fleet import BOARD, WEARERS, train_fleet

from ondevice.build import simulate_command
from ondevice.config import Config, DeviceSettings, TrainingSettings
from ondevice.data import Dataset, make_dataset
from ondevice.demo import wearer_split
from ondevice.session import prepare
from ondevice.target import build_for, target_board

BUILD = Path(__file__).resolve().parent.parent / "build" / "tests"


def test_eight_boards_at_once_learn_what_each_learns_alone() -> None:
    build = BUILD / os.environ.get("PYTEST_XDIST_WORKER", "main")
    config = Config(device=DeviceSettings(board=BOARD))
    prepared, board = prepare(config, build, print), target_board(config.device)
    assert board is not None
    argv = simulate_command(build_for(prepared.model, board, build), board)
    data = []
    for wearer in WEARERS:
        whole = make_dataset(wearer_split(*wearer), "wearer")
        data.append((wearer, Dataset(whole.x[:4], whole.y[:4], whole.x_test[:1], whole.y_test[:1])))
    assert len({np.asarray(samples.x).tobytes() for _, samples in data}) == 8
    fleet = train_fleet(argv, prepared.model.manifest, data, TrainingSettings(steps=4))
    assert fleet.equal
    assert len({trained.parameters for trained in fleet.together}) == 8
    assert all(trained.instructions > 4 * 500_000 for trained in fleet.together)
