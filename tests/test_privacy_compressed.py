"""What a compressing device sends, as the audit reads it; the rows of an audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ondevice.api.inputs import data_file, module_file
from ondevice.config import Config, ModelSettings, with_overrides
from ondevice.errors import UserError
from ondevice.privacy.arrangement import find_arrangement
from ondevice.privacy.device_update import DeviceUpdates
from ondevice.privacy.scenarios import all_scenarios, configured_scenarios, quick_scenarios
from small_networks import NETWORKS, labels

RATIO = 0.1


def settings(folder: Path) -> Config:
    network = NETWORKS["perceptron"]
    x, y = network.samples(24), labels(24)
    files = {
        "model": {"file": module_file(network.module(), x[0], folder)},
        "data": {"file": data_file((x, y, x[:2], y[:2]), folder, 0.2)},
    }
    return with_overrides(Config(), files, "test")


def test_each_update_of_a_compressing_device_is_its_first(tmp_path: Path) -> None:
    options: dict[str, object] = {"compress": "topk", "compress_ratio": RATIO}
    x, y = NETWORKS["perceptron"].samples(24), labels(24)
    with DeviceUpdates(settings(tmp_path), options, tmp_path) as board:
        updates = [board.train(x[i : i + 1], y[i : i + 1], 0.1) for i in (0, 1, 0)]
    for update in updates:
        assert 0 < update.sent_elements <= round(RATIO * update.elements) + 1
        for sent, gradient in zip(update.sent, update.gradients, strict=True):
            assert np.array_equal(sent, gradient != 0)
    first, other, again = (np.concatenate([g.ravel() for g in u.gradients]) for u in updates)
    assert np.array_equal(first, again)  # nothing of the other is in a residual
    assert not np.array_equal(first, other)


def test_what_is_no_plain_sgd_on_cross_entropy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an audit takes sgd and cross_entropy"):
        DeviceUpdates(settings(tmp_path), {"optimizer": "adam"}, tmp_path)


def test_rows_have_names_of_their_own_and_cover_schemes_sweeps_and_codecs(tmp_path: Path) -> None:
    file = settings(tmp_path).model.file
    assert file is not None
    rows = all_scenarios(find_arrangement(file), (2,), tmp_path)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert {
        "float32",
        "int8",
        "int8-last",
        "int8-sparse",
        "int8-batch2",
        "topk0.01",
        "dp0.1",
    } < set(names)
    assert len({row.name for row in quick_scenarios()}) == len(quick_scenarios())


def test_the_users_settings_are_a_row_where_they_are_not_the_defaults() -> None:
    assert configured_scenarios(ModelSettings(file=Path("net.pt2"))) == []
    (row,) = configured_scenarios(ModelSettings(scheme="last", accumulation_steps=3))
    assert row.compiled == {"scheme": "last", "accumulation_steps": 3}
    assert row.batch == 3
    assert "scheme last" in row.title
