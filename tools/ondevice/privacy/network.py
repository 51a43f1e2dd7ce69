"""The torch module as the attacker has it: gradients of the loss that can be differentiated again.

A gradient is compared in the compiler's normal form, element by element, as the device sends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.func import functional_call, vmap

from ondevice.errors import UserError
from ondevice.privacy.arrangement import Arrangement, find_arrangement
from ondevice.privacy.update import Update
from ondevice_compiler.load.torch_model import read_exported

Gradients = list[torch.Tensor]


@dataclass(frozen=True, eq=False)
class Target:
    """A gradient estimate, laid out as the module's own tensors.

    Attributes:
        names: Of the module's tensors that the update says something of.
        values: One for each of these.
        known: Likewise: 1 where it does, else 0.
        network: Weights that it was computed with.
    """

    names: tuple[str, ...]
    values: Gradients
    known: Gradients
    network: AttackedNetwork

    def squares(self) -> float:
        """Sum of the squares of what is known."""
        return float(sum((value * value).sum() for value in self.values))


class AttackedNetwork:
    """The network with the weights that a round began with."""

    def __init__(
        self,
        module: Any,
        state: Mapping[str, torch.Tensor],
        names: Sequence[str],
        factors: Gradients,
    ) -> None:
        self._module = module
        self._fixed = {k: v for k, v in state.items() if k not in names}
        self._trained = {k: state[k].clone().requires_grad_() for k in names}
        self._factors = factors

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """[n, classes] of samples [n, ...sample shape]."""
        state = {**self._fixed, **self._trained}

        def one(sample: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = functional_call(self._module, state, (sample[None],))
            return output.reshape(-1)

        if len(x) == 1:  # vmap costs some time
            return one(x[0])[None]
        logits: torch.Tensor = vmap(one)(x)  # programs are exported for batch 1
        return logits

    def gradients(self, x: torch.Tensor, targets: torch.Tensor, create_graph: bool) -> Gradients:
        """Gradient of the mean cross entropy, laid out as `Target.values`.

        Args:
            x: [n, ...sample shape].
            targets: [n, classes], probabilities.
            create_graph: It will be differentiated.
        """
        logs = torch.log_softmax(self.logits(x), -1)
        loss = -(targets * logs).sum(-1).mean()
        found = torch.autograd.grad(loss, list(self._trained.values()), create_graph=create_graph)
        return [gradient * factor for gradient, factor in zip(found, self._factors, strict=True)]


@dataclass(frozen=True, eq=False)
class AttackedModule:
    """A program saved by `torch.export.save`, ready to be attacked with any update.

    Attributes:
        arrangement: Of the compiler's parameters in it.
        classes: Outputs.
    """

    arrangement: Arrangement
    classes: int
    _module: Any
    _state: Mapping[str, torch.Tensor]

    @classmethod
    def load(cls, path: Path) -> AttackedModule:
        """Reads the program.

        Raises:
            UserError: It is none, or it cannot be arranged.
        """
        program = read_exported(path)
        state = {name: values.detach().clone() for name, values in program.state_dict.items()}
        arrangement = find_arrangement(path)
        classes = arrangement.shapes[f"{arrangement.last_layer}.weight"][0]
        return cls(arrangement, classes, program.module(), state)

    def target(self, update: Update, sent_only: bool = False) -> Target:
        """Puts an update into the module's layout.

        Args:
            update: Of a device.
            sent_only: Elements that compression left out say nothing; else they say 0.

        Raises:
            UserError: Something was trained that the module does not have.
        """
        flat, weights, known = (
            self._flat(update, values)
            for values in (update.gradients, update.weights, self._known(update, sent_only))
        )
        state, names, values, masks, factors = dict(self._state), [], [], [], []
        for name, place in self.arrangement.places.items():
            source = np.maximum(place.source, 0)
            has = (place.source >= 0) & (known[1][source] > 0)
            trained = np.where(has, place.offset + place.factor * weights[0][source], 0.0)
            mask = has & (known[0][source] > 0)
            if has.any():
                own = state[name].numpy()
                state[name] = torch.from_numpy(np.where(has, trained, own).astype(np.float32))
            if not mask.any():
                continue
            names.append(name)
            values.append(_tensor(np.where(mask, flat[0][source], 0.0)))
            masks.append(_tensor(mask))
            factors.append(_tensor(place.factor))
        network = AttackedNetwork(self._module, state, names, factors)
        return Target(tuple(names), values, masks, network)

    def _known(self, update: Update, sent_only: bool) -> Sequence[NDArray[Any]]:
        if sent_only:
            return update.sent
        return [np.ones(gradient.shape) for gradient in update.gradients]

    def _flat(
        self, update: Update, arrays: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Trained numbers among all of the normal form, and which of them are there."""
        values, there = np.zeros(self.arrangement.size), np.zeros(self.arrangement.size, np.bool_)
        for name, part, array in zip(update.names, update.parts, arrays, strict=True):
            if name not in self.arrangement.shapes:
                raise UserError(
                    f"the scheme trains {name}, which the module does not have; an audit takes "
                    "schemes that add no layers"
                )
            shape = self.arrangement.shapes[name]
            start = self.arrangement.starts[name]
            where = np.arange(start, start + int(np.prod(shape))).reshape(shape)
            if part is not None:
                where = np.take(where, part[1], axis=part[0])
            values[where.reshape(-1)] = np.asarray(array, np.float64).reshape(-1)
            there[where.reshape(-1)] = True
        return values, there


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32))
