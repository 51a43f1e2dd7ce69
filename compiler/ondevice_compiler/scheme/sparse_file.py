"""A sparse update scheme as a TOML file.

weights = ["fc"]                          # layers whose weight is trained whole
biases = "last-20"                        # or a list of layers, or "all"
[channels]                                # layers whose weight is trained in part
"block8.pw1" = 0.25                       # the quarter of its channels with the largest norm
"block9.pw1" = {first = 12}               # channels 0 to 11
"block10.pw1" = [0, 5, 7]
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ondevice_compiler.errors import UserError
from ondevice_compiler.program import Program
from ondevice_compiler.scheme.channels import channel_count, strongest_channels
from ondevice_compiler.scheme.update_scheme import UpdateScheme

KEYS = ("weights", "biases", "channels")


def read_scheme(path: Path, program: Program, layers: list[str]) -> UpdateScheme:
    """Reads a scheme and finds its layers in a model.

    Args:
        path: Of the TOML file.
        program: Joint program of the model, for the norms of its weights.
        layers: All layers, in order.

    Raises:
        UserError: No such file, not TOML, unknown keys or layers, or an impossible choice.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"update scheme {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; bytes that are no UTF-8
        raise UserError(f"update scheme {path}: not valid TOML: {error}") from error
    unknown = sorted(set(table) - set(KEYS))
    if unknown:
        raise UserError(
            f"update scheme {path}: unknown key '{unknown[0]}'; allowed: {', '.join(KEYS)}"
        )
    names = [
        f"{layer}.{suffix}"
        for key, suffix in (("weights", "weight"), ("biases", "bias"))
        for layer in _layers(path, key, table.get(key, []), layers)
    ]
    partial = table.get("channels", {})
    if not isinstance(partial, dict):
        raise UserError(f"update scheme {path}: 'channels' must be a table of layers")
    _check_known(path, "channels", list(partial), layers)
    channels = {}
    for layer, wanted in partial.items():
        weight = f"{layer}.weight"
        if weight in names:
            raise UserError(
                f"update scheme {path}: layer {layer} is in both 'weights' and 'channels'; "
                "name it once"
            )
        channels[weight] = _channels(path, program, weight, wanted)
    return UpdateScheme.of(f"sparse:{path.name}", names, channels)


def _layers(path: Path, key: str, listed: Any, layers: list[str]) -> list[str]:
    if isinstance(listed, str):
        kind, _, count = listed.partition("-")
        if listed == "all":
            return layers
        if kind == "last" and count.isdigit() and 1 <= int(count) <= len(layers):
            return layers[-int(count) :]
    if not isinstance(listed, list):
        raise UserError(
            f"update scheme {path}: '{key}' is {listed!r}; it must be a list of layer names, "
            f'"all" or "last-K" with K from 1 to {len(layers)}'
        )
    _check_known(path, key, listed, layers)
    return listed


def _check_known(path: Path, key: str, listed: list[Any], layers: list[str]) -> None:
    wrong = [str(layer) for layer in listed if layer not in layers]
    if wrong:
        raise UserError(
            f"update scheme {path}: '{key}' names unknown layers {', '.join(wrong)}; "
            f"allowed: {', '.join(layers)}"
        )


def _channels(path: Path, program: Program, weight: str, wanted: Any) -> tuple[int, ...]:
    if isinstance(wanted, float | int) and not isinstance(wanted, bool) and 0 < wanted <= 1:
        return strongest_channels(program, weight, float(wanted))
    if isinstance(wanted, dict) and list(wanted) == ["first"]:
        first, count = wanted["first"], channel_count(program, weight)
        if type(first) is int and 1 <= first <= count:
            return tuple(range(first))
    if isinstance(wanted, list) and wanted and all(type(channel) is int for channel in wanted):
        return tuple(sorted(set(wanted)))
    count = channel_count(program, weight)
    raise UserError(
        f"update scheme {path}: channels of {weight} are {wanted!r}; allowed: a share above 0 and "
        f"up to 1, {{first = N}} with N from 1 to {count}, or a list of channels from 0 to "
        f"{count - 1}"
    )
