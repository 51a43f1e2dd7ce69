"""A scheme as the TOML file that `--scheme sparse:FILE` reads."""

from __future__ import annotations

import json

from ondevice_compiler.scheme import UpdateScheme


def scheme_to_toml(scheme: UpdateScheme, comment: str) -> str:
    """Prints a scheme that trains weights (whole or in part) and biases.

    Args:
        scheme: From the search.
        comment: One line above it.
    """
    whole = sorted(scheme.parameters - set(scheme.channels))
    lines = [
        f"# {comment}",
        f"weights = {_layers(whole, '.weight')}",
        f"biases = {_layers(whole, '.bias')}",
    ]
    if scheme.channels:
        lines += ["", "[channels]"]
        for weight, chosen in sorted(scheme.channels.items()):
            lines.append(f"{json.dumps(weight.removesuffix('.weight'))} = {list(chosen)}")
    return "\n".join(lines) + "\n"


def _layers(parameters: list[str], suffix: str) -> str:
    """A TOML array of the layers; JSON's strings are TOML's."""
    return json.dumps([p.removesuffix(suffix) for p in parameters if p.endswith(suffix)])
