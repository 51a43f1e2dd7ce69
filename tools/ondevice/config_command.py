"""The verb `ondevice config`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ondevice import options as opt
from ondevice.config import Overrides, config_of
from ondevice.options import INPUT, with_settings
from ondevice.settings import DEFAULT, layers, origins
from ondevice.terminal import text_console


@with_settings(*INPUT, "device", "training", "output")
def config_verb(
    overrides: Overrides,
    config: opt.ConfigOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is as by default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Print the settings that a verb would run with, and where each comes from."""
    found = layers(config, overrides)
    values = asdict(config_of(found))
    decided = origins(found)
    rows = [
        (f"{section}.{key}", value)
        for section, keys in values.items()
        for key, value in keys.items()
    ]
    if as_json:
        shown = {name: {"value": _plain(value), "from": decided[name]} for name, value in rows}
        print(json.dumps(shown))
        return
    table = Table("setting", "value", "from")
    for name, value in rows:
        if everything or decided[name] != DEFAULT:
            table.add_row(name, "" if value is None else str(_plain(value)), decided[name])
    if table.row_count:
        text_console(stderr=False).print(table)
    else:
        print("Everything is as by default; --all shows it")


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
