"""The table of options that set keys of the configuration."""

from dataclasses import fields

import pytest
from typer import Typer
from typer.testing import CliRunner

from ondevice.config import Config, Overrides
from ondevice.options import SETTINGS, with_settings


@pytest.fixture
def given() -> list[Overrides]:
    return []


@pytest.fixture
def verb(given: list[Overrides]) -> Typer:
    app = Typer()

    @app.command()
    @with_settings("training", "device.board", without=("training.seed",))
    def run(overrides: Overrides) -> None:
        given.append(overrides)

    return app


def test_every_option_sets_a_key_of_the_configuration() -> None:
    keys = {
        f"{section.name}.{item.name}"
        for section in fields(Config)
        for item in fields(getattr(Config(), section.name))
    }
    assert set(SETTINGS) <= keys


def test_a_verb_receives_what_was_given_by_section_and_key(
    verb: Typer, given: list[Overrides]
) -> None:
    result = CliRunner().invoke(verb, ["--board", "host", "--lr", "0.5"])
    assert result.exit_code == 0
    (overrides,) = given
    assert overrides["device"] == {"board": "host"}
    told = {key: value for key, value in overrides["training"].items() if value is not None}
    assert told == {"learning_rate": 0.5}


def test_a_verb_refuses_an_option_that_it_does_not_take(verb: Typer) -> None:
    assert CliRunner().invoke(verb, ["--seed", "1"]).exit_code == 2
    assert CliRunner().invoke(verb, ["--port", "/dev/ttyACM0"]).exit_code == 2
