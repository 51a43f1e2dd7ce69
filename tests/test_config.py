"""Settings from TOML and the command line."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.config import (
    Config,
    ConfigError,
    ModelSettings,
    TrainingSettings,
    config_to_toml,
    load_config,
)


def _write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text)
    return path


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = _write(tmp_path, "[training]\nlearning_rate = 0.5\nseed = 4\n")
    config = load_config(path, {"training": {"seed": 9, "epochs": None}})
    assert config.training == TrainingSettings(learning_rate=0.5, seed=9)
    assert config.model == ModelSettings()


def test_steps_on_the_command_line_replace_epochs_of_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path, "[training]\nepochs = 2\n")
    training = load_config(path, {"training": {"steps": 7}}).training
    assert (training.steps, training.epochs) == (7, None)
    assert training.total_steps(100) == 7


def test_paths_of_a_file_are_relative_to_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path, '[data]\nfile = "a.npz"\n[model]\nscheme = "sparse:s.toml"\n')
    config = load_config(path)
    assert config.data.file == tmp_path / "a.npz"
    assert config.model.scheme == f"sparse:{tmp_path / 's.toml'}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nepoch = 2", r"unknown key in \[training\]: 'epoch'; allowed: steps, epochs,"),
        ("[trainig]\nepochs = 2", r"unknown section: 'trainig'; allowed: model, .*'training'\?"),
        ("epochs = 2", "unknown section: 'epochs'"),
        ("model = 2", "stands outside a section"),
        ("[training]\nepochs = 0", "training.epochs = 0: must be at least 1"),
        ("[training]\nepochs = true", "must be an integer"),
        ("[training]\nepochs = 1.5", "must be an integer"),
        ("[training]\nlearning_rate = nan", "must be at least 0"),
        ("[training]\nlearning_rate = 'fast'", "must be a number"),
        ("[training]\nlearning_rate_schedule = 'cubic'", "allowed: constant, linear, cosine, step"),
        ("[training]\nwarmup_steps = -1", "must be at least 0"),
        ("[device]\nflash = 1", "must be true or false"),
        ("[training]\nepochs = 1\nsteps = 1", "exclude each other"),
        ("[model]\ndtype = 'int4'", "model.dtype = 'int4': allowed: int8, float32"),
        ("[data]\nfile = 3", "must be a path"),
        ("[data]\nfile = ''", "the path is empty"),
        ("[training", "not a TOML file"),
    ],
)
def test_a_wrong_setting_is_refused_with_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot read"):
        load_config(tmp_path / "none.toml")


@given(
    seed=st.integers(0, 2**62),
    learning_rate=st.floats(0, 1e6),
    steps=st.none() | st.integers(1, 10**9),
    port=st.none() | st.text(st.characters(exclude_categories=["C"]), min_size=1),
    schedule=st.sampled_from(["constant", "linear", "cosine", "step"]),
)
def test_printed_settings_load_again_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    learning_rate: float,
    steps: int | None,
    port: str | None,
    schedule: str,
) -> None:
    folder = tmp_path_factory.mktemp("config")
    before = load_config(None, {"output": {"directory": str(folder)}})
    before = replace(
        before,
        training=TrainingSettings(
            steps=steps, learning_rate=learning_rate, seed=seed, learning_rate_schedule=schedule
        ),
        device=replace(before.device, port=port),
    )
    path = folder / "config.toml"
    path.write_text(config_to_toml(before), encoding="utf-8")
    assert load_config(path) == before


def test_defaults_are_a_complete_configuration() -> None:
    assert load_config() == Config()
