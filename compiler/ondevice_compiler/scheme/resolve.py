"""Names of update schemes -> parameters of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ondevice_compiler.errors import UserError
from ondevice_compiler.program import Program
from ondevice_compiler.scheme.channels import channel_count, check_channels
from ondevice_compiler.scheme.sparse_file import read_scheme
from ondevice_compiler.scheme.update_scheme import UpdateScheme

SCHEMES = "full, last, last-K, bias, bias-only, bn, tinytl or sparse:FILE.toml"


def resolve_scheme(scheme: str | UpdateScheme, program: Program) -> UpdateScheme:
    """Turns the name of a scheme into parameter names (docs/schemes.md).

    `last-K` trains weights and biases of the last K layers; `bias` trains every bias and the whole
    last layer (whose weights must learn the new task), `bias-only` no weight at all; `bn` and
    `tinytl` train the layers that `prepare` inserted; a TOML file lists tensors and channels
    (sparse_file.py).

    Raises:
        UserError: An unknown scheme, file, layer, or nothing to train.
    """
    layers = list(dict.fromkeys(_layer(name) for name in program.gradients))
    if isinstance(scheme, UpdateScheme):
        chosen = scheme
    elif scheme == "full":
        chosen = UpdateScheme.of("full", program.gradients)
    elif scheme in ("bias", "bias-only"):
        biases = [name for name in program.gradients if name.endswith(".bias")]
        head = [f"{layers[-1]}.weight"] if scheme == "bias" else []
        chosen = UpdateScheme.of(scheme, [*biases, *head])
    elif scheme in ("bn", "tinytl"):
        chosen = _with_inserted(scheme, program, layers[-1])
    elif scheme == "last" or (scheme.startswith("last-") and scheme[5:].isdigit()):
        count = 1 if scheme == "last" else int(scheme[5:])
        if not 1 <= count <= len(layers):
            raise UserError(
                f"scheme {scheme}: the model has {len(layers)} layers; allowed: 1 to that"
            )
        kept = set(layers[-count:])
        chosen = UpdateScheme.of(scheme, [n for n in program.gradients if _layer(n) in kept])
    elif scheme.startswith("sparse:"):
        chosen = read_scheme(Path(scheme.removeprefix("sparse:")), program, layers)
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
    return _checked_channels(program, chosen)


def _with_inserted(scheme: str, program: Program, head: str) -> UpdateScheme:
    """The inserted layers and the last one; with lite residuals every bias too."""
    if not program.inserted:
        raise UserError(
            f"scheme {scheme} adds layers, but this model was analysed for another scheme; analyse "
            f"it with scheme {scheme}"
        )
    whole = {head, *program.inserted}
    names = [n for n in program.gradients if _layer(n) in whole]
    if scheme == "tinytl":
        names += [n for n in program.gradients if n.endswith(".bias")]
    return UpdateScheme.of(scheme, names)


def _checked_channels(program: Program, scheme: UpdateScheme) -> UpdateScheme:
    """The scheme without the weights whose every channel is chosen: they are trained whole."""
    partial = {}
    for weight, channels in scheme.channels.items():
        check_channels(program, weight, channels, scheme.name)
        if len(channels) < channel_count(program, weight):
            partial[weight] = tuple(channels)
    return replace(scheme, channels=partial)


def _layer(parameter: str) -> str:
    return parameter.rpartition(".")[0]
