"""Options win over the environment, that over the file, that over the defaults."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ondevice.cli import app
from ondevice.config import Config, ConfigError, config_of
from ondevice.settings import environment_layers, layers, load_settings, origins


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ondevice.toml").write_text(
        '[training]\nepochs = 7\nseed = 7\n[device]\nboard = "host"\n[data]\nfile = "here"\n'
    )
    return tmp_path


def test_each_place_wins_over_the_weaker_ones(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONDEVICE_TRAINING_EPOCHS", "8")
    monkeypatch.setenv("ONDEVICE_TRAINING_SEED", "8")
    settings = load_settings(None, {"training": {"epochs": 9, "seed": None}})
    training = settings.training
    assert (training.epochs, training.seed, settings.device.board) == (9, 8, "host")
    assert training.rollbacks == Config().training.rollbacks
    assert settings.data.file == Path("here")


def test_a_file_that_is_named_takes_the_place_of_the_projects(project: Path) -> None:
    other = project / "other.toml"
    other.write_text("[training]\nepochs = 2\n")
    assert load_settings(other, {}).training.epochs == 2
    assert load_settings(other, {}).device.board is None


def test_without_a_file_there_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}) == Config()


@pytest.mark.parametrize(
    ("variable", "text", "section", "key", "value"),
    [
        ("ONDEVICE_MODEL_SCHEME", "last-2", "model", "scheme", "last-2"),
        ("ONDEVICE_DEVICE_FLASH", "true", "device", "flash", True),
        ("ONDEVICE_DEVICE_PORT", "/dev/ttyACM0", "device", "port", "/dev/ttyACM0"),
        ("ONDEVICE_TRAINING_LEARNING_RATE", "1e-3", "training", "learning_rate", 1e-3),
        ("ONDEVICE_DATA_COLUMNS", '["ax", "ay"]', "data", "columns", ("ax", "ay")),
        ("ONDEVICE_DATA_LABEL_COLUMN", "7", "data", "label_column", "7"),
        ("ONDEVICE_MODEL_FILE", "net.onnx", "model", "file", Path("net.onnx")),
    ],
)
def test_a_variable_is_read_as_its_key_is(
    variable: str, text: str, section: str, key: str, value: object
) -> None:
    settings = config_of(environment_layers({variable: text}))
    assert getattr(getattr(settings, section), key) == value


def test_variables_of_others_are_left_alone() -> None:
    assert environment_layers({"ONDEVICE_COVERAGE": "x", "HOME": "/", "ONDEVICE_": ""}) == []


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("ONDEVICE_DEVICE_BORD", "host", "did you mean ONDEVICE_DEVICE_BOARD"),
        ("ONDEVICE_TRAINING_EPOCHS", "many", r"ONDEVICE_TRAINING_EPOCHS\).*an integer"),
        ("ONDEVICE_MODEL_DTYPE", "int4", "allowed: int8, float32"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config_of(environment_layers({variable: text}))


def test_the_origin_of_every_setting_is_known(project: Path) -> None:
    found = layers(None, {"training": {"seed": 1}}, {"ONDEVICE_MODEL_HEAD": "4"})
    decided = origins(found)
    assert decided["training.seed"] == "command line"
    assert decided["training.epochs"] == "ondevice.toml"
    assert decided["model.head"] == "environment (ONDEVICE_MODEL_HEAD)"
    assert decided["model.scheme"] == "default"


def test_the_verb_config_shows_values_with_their_origins(project: Path) -> None:
    done = CliRunner().invoke(app, ["config", "--lr", "0.5", "--json"])
    shown = json.loads(done.stdout)
    assert shown["training.learning_rate"] == {"value": 0.5, "from": "command line"}
    assert shown["training.epochs"] == {"value": 7, "from": "ondevice.toml"}
    table = CliRunner().invoke(app, ["config"]).stdout
    assert "training.epochs" in table
    assert "training.rollbacks" not in table
