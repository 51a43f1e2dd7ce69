"""Trained parameters of the normal form, put back into the torch module that they came from.

How a layer's numbers lie in the module is not assumed but found: by the arrangement that gives the
module's own numbers from those that it was imported as. So what cannot be put back is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UserError
from ondevice_compiler.load.normal_form import LoadedModel, normalize
from ondevice_compiler.load.torch_model import import_exported, read_exported
from ondevice_compiler.scheme.prepare import prepare

Array = NDArray[Any]
Parts = Mapping[str, tuple[int, Sequence[int]]]
SMALLEST_GAMMA = 1e-6  # below which a batch norm's scale cannot be divided by


def trained_state(
    path: Path, scheme: str, trained: Mapping[str, Array], parts: Parts
) -> dict[str, Any]:
    """Returns the whole state of an exported module, with trained parameters in place.

    Args:
        path: Program saved by `torch.export.save`, as it was compiled.
        scheme: That was trained, which may have changed the model first.
        trained: Real numbers by name, in the normal form's layout.
        parts: Of parameters that were trained in part: axis, and the channels along it.

    Returns:
        Tensors by name, for `load_state_dict` of the module.

    Raises:
        UserError: Something was trained that the module does not have, or not in this form.
    """
    import torch

    program = read_exported(path)
    loaded = prepare(normalize(import_exported(program), source=path.name), scheme)
    state = _State.of(program)
    whole = _whole(loaded, trained, parts)
    for layer in dict.fromkeys(name.rpartition(".")[0] for name in trained):
        keys = [key for key in ("weight", "bias") if f"{layer}.{key}" in whole]
        new = {key: whole[f"{layer}.{key}"] for key in keys}
        old = {key: loaded.parameters[f"{layer}.{key}"] for key in keys}
        if layer in loaded.batch_norms:
            norm = _Norm.of(state, loaded.batch_norms[layer].name)
            norm.take_up(state, layer, old, new)
        else:
            for key in new:
                state.put(layer, key, old[key], new[key])
    return {
        name: torch.from_numpy(values).to(program.state_dict[name].dtype)
        for name, values in state.values.items()
    }


def _whole(loaded: LoadedModel, trained: Mapping[str, Array], parts: Parts) -> dict[str, Array]:
    """All parameters, the trained ones in place of those that were imported."""
    whole: dict[str, Array] = {name: values.copy() for name, values in loaded.parameters.items()}
    for name, values in trained.items():
        if name not in whole:
            raise UserError(f"{name} was trained, which module {loaded.source} does not have")
        if name in parts:
            axis, channels = parts[name]
            np.moveaxis(whole[name], axis, 0)[list(channels)] = np.moveaxis(values, axis, 0)
        elif values.size != whole[name].size:
            raise UserError(
                f"{name} was trained with shape {list(values.shape)}, module {loaded.source} has "
                f"{list(whole[name].shape)}: its layer was replaced (head)"
            )
        else:
            whole[name] = values.reshape(whole[name].shape)
    return whole


@dataclass(frozen=True)
class _State:
    """A module's state, by name."""

    values: dict[str, Array]
    epsilons: Mapping[str, float]  # of batch norms, by the name of their running mean

    @classmethod
    def of(cls, program: Any) -> _State:
        values = {k: v.detach().cpu().numpy().copy() for k, v in program.state_dict.items()}
        names = program.graph_signature.inputs_to_buffers
        norms = [node for node in program.graph.nodes if "batch_norm" in str(node.target)]
        # aten.batch_norm has `training` before momentum and epsilon, its decomposed form has not.
        epsilons = {
            names.get(str(node.args[3]), ""): node.args[7 if len(node.args) > 8 else 6]
            for node in norms
            if len(node.args) > 6
        }
        return cls(values, epsilons)

    def name_of(self, layer: str, key: str) -> str | None:
        """Name in the module of a parameter of the normal form, whose dots became underscores."""
        wanted = [f"{layer}.{key}".replace(".", "_")]
        if key == "weight":
            wanted.append(layer.replace(".", "_"))  # a parameter of the module itself
        return next((name for name in self.values if name.replace(".", "_") in wanted), None)

    def get(self, layer: str, key: str, otherwise: float, like: Array) -> Array:
        """A vector of the module, or what a layer without it computes with."""
        name = self.name_of(layer, key)
        found = np.full(len(like), otherwise) if name is None else self.values[name]
        return np.asarray(found, np.float64)

    def put(self, layer: str, key: str, old: Array, new: Array) -> None:
        """Puts a parameter in place, as the module's own numbers lie.

        Raises:
            UserError: The module has no such parameter, or it has other numbers.
        """
        name, piece = self.name_of(layer, key), slice(None)
        stem, _, number = layer.rpartition("_")
        if name is None and number.isdecimal():  # attention's projections are rows of one weight
            name = self.name_of(stem, key)
            piece = slice(int(number) * len(new), (int(number) + 1) * len(new))
        if name is None:
            if np.array_equal(old, new):
                return
            raise UserError(
                f"layer {layer!r} was trained with a {key}, which it does not have in the module; "
                "give it one before it is compiled"
            )
        mine = self.values[name][piece]
        for before, after in zip(
            _arrangements(old, mine.shape), _arrangements(new, mine.shape), strict=True
        ):
            if np.allclose(before, mine, rtol=1e-3, atol=1e-6 + 1e-4 * float(np.abs(mine).max())):
                self.values[name][piece] = after
                return
        raise UserError(
            f"{name} cannot be put back: more than one batch norm was folded into layer {layer!r}, "
            "or it lies in the module in a way that is not known"
        )


def _arrangements(values: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Ways in which a module may hold [outputs, rows, columns, inputs], the usual one first."""
    if values.size != int(np.prod(shape)):
        return
    if values.ndim == 4:
        yield np.moveaxis(values, -1, 1).reshape(shape)
        groups = max(shape[0] // values.shape[-1], 1)
        if len(values) % groups == 0:  # a transposed convolution: [inputs, outputs of a group, ...]
            grouped = values.reshape(groups, -1, *values.shape[1:])
            yield grouped.transpose(0, 4, 1, 2, 3).reshape(shape)
        yield values.reshape(len(values), -1).T.reshape(shape)
    yield values.reshape(shape)


@dataclass(frozen=True)
class _Norm:
    """A batch norm of the module: gamma * (x - mean) / deviation + beta."""

    name: str
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, state: _State, name: str) -> _Norm:
        mean, variance = (state.name_of(name, f"running_{key}") for key in ("mean", "var"))
        epsilon = state.epsilons.get(mean or "")
        if mean is None or variance is None or epsilon is None:
            raise UserError(f"the batch norm {name!r} is not one of the module's")
        deviation = np.sqrt(state.values[variance].astype(np.float64) + epsilon)
        return cls(name, state.values[mean].astype(np.float64), deviation)

    def take_up(
        self, state: _State, layer: str, old: Mapping[str, Array], new: Mapping[str, Array]
    ) -> None:
        """Takes the norm out of a layer's new numbers: weight to the layer, bias to the norm."""
        gamma = state.get(self.name, "weight", 1.0, self.mean)
        shift = (state.get(layer, "bias", 0.0, self.mean) - self.mean) / self.deviation
        usable = np.abs(gamma) > SMALLEST_GAMMA
        if not usable.all():
            raise UserError(
                f"the batch norm {self.name!r} has a weight of 0 in channel "
                f"{int(np.argmin(usable))}, which hides what its layer learnt there"
            )
        factor = (self.deviation / gamma).reshape(-1, 1, 1, 1)
        state.put(layer, "weight", old["weight"] * factor, new["weight"] * factor)
        before, after = (values["bias"] - gamma * shift for values in (old, new))
        state.put(self.name, "bias", before, after)
