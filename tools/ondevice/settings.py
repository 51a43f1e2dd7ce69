"""Where the command line's settings come from: options, environment, file, defaults, in this order.

A setting `key` of section `[section]` is also the environment's ONDEVICE_SECTION_KEY. Without
--config, ondevice.toml in the working directory is the file.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ondevice.config import (
    Config,
    ConfigError,
    Layer,
    Overrides,
    command_line_layer,
    config_of,
    file_layer,
)

PROJECT_FILE = Path("ondevice.toml")
PREFIX = "ONDEVICE_"
DEFAULT = "default"


def load_settings(config: Path | None, overrides: Overrides) -> Config:
    """Reads what a verb runs with.

    Args:
        config: --config; None: ondevice.toml of the working directory, where there is one.
        overrides: Options of the command line.

    Raises:
        ConfigError: A value is wrong; the message says where it stands.
    """
    return config_of(layers(config, overrides))


def layers(
    config: Path | None, overrides: Overrides, environment: Mapping[str, str] = os.environ
) -> list[Layer]:
    """Lists the places that settings come from, the weakest first."""
    if config is None and PROJECT_FILE.is_file():
        config = PROJECT_FILE
    file = [file_layer(config)] if config is not None else []
    return [*file, *environment_layers(environment), command_line_layer(overrides)]


def environment_layers(environment: Mapping[str, str]) -> list[Layer]:
    """Takes the variables ONDEVICE_SECTION_KEY, one layer each, so that messages name them.

    Others that begin with ONDEVICE_ but with no section are somebody else's.

    Raises:
        ConfigError: A section has no such key, or its value is of another kind.
    """
    sections = {item.name: item.default_factory for item in fields(Config)}
    found = []
    for variable, text in sorted(environment.items()):
        section, _, key = variable.removeprefix(PREFIX).lower().partition("_")
        if not variable.startswith(PREFIX) or section not in sections:
            continue
        kinds = get_type_hints(sections[section])
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, n=1)
            hint = f"; did you mean {PREFIX}{section.upper()}_{near[0].upper()}?" if near else ""
            raise ConfigError(
                f"environment: {variable}: [{section}] has no key {key!r}; there are: "
                f"{', '.join(kinds)}{hint}"
            )
        value = _value(text, kinds[key])
        found.append(Layer({section: {key: value}}, f"environment ({variable})"))
    return found


def _value(text: str, kind: Any) -> object:
    """A variable's text as TOML would hold it; words need no quotes."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(choice for choice in get_args(kind) if choice is not type(None))
    if kind in (str, Path):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # of a wrong kind, which is said in the usual words


def origins(found: Sequence[Layer]) -> dict[str, str]:
    """Says of each setting, as "section.key", which layer decided it."""
    decided = {
        f"{section.name}.{key}": DEFAULT
        for section in fields(Config)
        for key in get_type_hints(section.default_factory)
    }
    for layer in found:
        for section, values in layer.tables.items():
            decided.update({f"{section}.{key}": layer.origin for key in values})
    return decided
