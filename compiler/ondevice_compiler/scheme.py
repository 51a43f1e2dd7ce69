"""Update schemes: which parameters a training step changes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ondevice_compiler.errors import UserError
from ondevice_compiler.program import Program, prune

SCHEMES = "full, last, last-K, bias, or sparse:FILE.toml"


@dataclass(frozen=True)
class UpdateScheme:
    """Names of the parameters to train.

    Attributes:
        name: For reports.
        parameters: Trained weights and biases, by their names in the manifest.
    """

    name: str
    parameters: frozenset[str]

    @classmethod
    def of(cls, name: str, parameters: Iterable[str]) -> UpdateScheme:
        """A scheme from any collection of parameter names."""
        return cls(name, frozenset(parameters))


def resolve_scheme(scheme: str | UpdateScheme, program: Program) -> UpdateScheme:
    """Turns `full`, `last`, `last-K`, `bias` or `sparse:FILE.toml` into parameter names.

    `last-K` trains weights and biases of the last K layers; `bias` trains every bias and the whole
    last layer (whose weights must learn the new task); a TOML file lists them:

        weights = ["conv3", "fc"]      # layers whose weight is trained
        biases = ["conv2", "conv3", "fc"]

    Raises:
        UserError: An unknown scheme, file, layer, or nothing to train.
    """
    layers = list(dict.fromkeys(_layer(name) for name in program.gradients))
    if isinstance(scheme, UpdateScheme):
        chosen = scheme
    elif scheme == "full":
        chosen = UpdateScheme.of("full", program.gradients)
    elif scheme == "bias":
        biases = [name for name in program.gradients if name.endswith(".bias")]
        chosen = UpdateScheme.of("bias", [*biases, f"{layers[-1]}.weight"])
    elif scheme == "last" or (scheme.startswith("last-") and scheme[5:].isdigit()):
        count = 1 if scheme == "last" else int(scheme[5:])
        if not 1 <= count <= len(layers):
            raise UserError(
                f"scheme {scheme}: the model has {len(layers)} layers; allowed: 1 to that"
            )
        kept = set(layers[-count:])
        chosen = UpdateScheme.of(scheme, [n for n in program.gradients if _layer(n) in kept])
    elif scheme.startswith("sparse:"):
        chosen = _read(Path(scheme.removeprefix("sparse:")), layers)
    else:
        raise UserError(f"unknown update scheme '{scheme}'; allowed: {SCHEMES}")
    unknown = sorted(chosen.parameters - set(program.gradients))
    if unknown:
        raise UserError(
            f"scheme {chosen.name} trains unknown parameters {', '.join(unknown)}; "
            f"allowed: {', '.join(program.gradients)}"
        )
    if not chosen.parameters:
        raise UserError(f"scheme {chosen.name} trains nothing; name at least one layer")
    return chosen


def select(program: Program, scheme: UpdateScheme) -> Program:
    """Keeps the gradients of the trained parameters and drops every step only others need."""
    gradients = {n: g for n, g in program.gradients.items() if n in scheme.parameters}
    error = f"d.{program.output}"
    kept = prune(program, [*gradients.values(), program.output, error])
    tensors = {
        name: replace(tensor, trainable=name in scheme.parameters)
        for name, tensor in kept.tensors.items()
    }
    return replace(kept, tensors=tensors, gradients=gradients)


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _read(path: Path, layers: list[str]) -> UpdateScheme:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"update scheme {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"update scheme {path}: not valid TOML: {error}") from error
    unknown = sorted(set(table) - {"weights", "biases"})
    if unknown:
        raise UserError(
            f"update scheme {path}: unknown key '{unknown[0]}'; allowed: weights, biases"
        )
    names = []
    for key, suffix in (("weights", "weight"), ("biases", "bias")):
        listed = table.get(key, [])
        if not isinstance(listed, list):
            raise UserError(f"update scheme {path}: '{key}' must be a list of layer names")
        wrong = [str(layer) for layer in listed if layer not in layers]
        if wrong:
            raise UserError(
                f"update scheme {path}: '{key}' names unknown layers {', '.join(wrong)}; "
                f"allowed: {', '.join(layers)}"
            )
        names += [f"{layer}.{suffix}" for layer in listed]
    return UpdateScheme.of(f"sparse:{path.name}", names)
