"""Contiguous slices that are read where they lie: the same numbers without the copy."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import test_strips
from ondevice_compiler.access import overlap_distance
from ondevice_compiler.compile import CompiledModel
from ondevice_compiler.order import order
from ondevice_compiler.program import Program, Step, Strip, Tensor
from ondevice_compiler.strips import strip_layout
from ondevice_compiler.views import contiguous_slices, slices_as_views
from small_networks import Network


class FirstToken(nn.Module):  # type: ignore[misc]
    """A sequence of which the classifier reads the first token, and a residual some others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden = nn.Linear(4, 6), nn.Linear(6, 6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x.transpose(1, 2)))
        y = x[:, 1:5]
        x = y[:, :3] + F.relu(self.hidden(x))[:, 4:7]
        return self.fc(x[:, :1].mean(1))


class Rows(nn.Module):  # type: ignore[misc]
    """Rows of the input and of maps that are read in full as well; some columns, and a crop."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
        self.side = nn.Conv2d(2, 4, 1, padding=(1, 0))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = F.relu(self.side(x[:, :, 2:]))
        x = F.relu(self.stem(x))
        x = x[:, :, 1:-1, 1:-1] + F.relu(self.body(x))
        return self.fc((x + side[:, :, :-1][:, :, 1:, 2:]).mean((2, 3)))


class Tail(nn.Module):  # type: ignore[misc]
    """One row of a large map, needed until the end of the step."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 1)
        self.body, self.last = nn.Conv2d(8, 64, 1), nn.Conv2d(64, 8, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.stem(x)[:, :, 3:4])
        return self.fc(F.relu(self.last(F.relu(x))).mean((2, 3)))


TOKENS, ROWS, TAIL = Network(FirstToken, (4, 9)), Network(Rows, (2, 9, 8)), Network(Tail, (2, 9, 8))


def compiled(network: Network, views: bool = True, **options: Any) -> tuple[CompiledModel, Program]:
    """Compiled with the views that the compiler chooses, or with none."""
    stage = test_strips.schedule_stage
    found = contiguous_slices if views else lambda program: ()
    with (
        mock.patch.object(test_strips, "STAGE", network),
        mock.patch.object(stage, "contiguous_slices", found),
    ):
        return test_strips.compiled_stage(**options)


def outcome(network: Network, model: CompiledModel) -> Any:
    with mock.patch.object(test_strips, "STAGE", network):
        return test_strips.outcome(model)


def copies(program: Program) -> int:
    return sum(step.op == "slice" for step in program.steps)


def arena_bytes(model: CompiledModel) -> int:
    return int(model.manifest["memory"]["arena_bytes"])


@pytest.mark.parametrize(
    ("network", "dtype", "left"), [(TOKENS, "int8", 0), (TOKENS, "float32", 0), (ROWS, "int8", 2)]
)
def test_views_change_no_bit_and_leave_only_slices_that_are_scattered(
    network: Network, dtype: str, left: int
) -> None:
    model, program = compiled(network, dtype=dtype)
    plain, copied = compiled(network, views=False, dtype=dtype)
    views = [tensor for tensor in program.tensors.values() if tensor.view_of is not None]
    assert copies(program) == left
    assert copies(copied) - left == len(views) > 0
    assert any(tensor.offset_bytes for tensor in views)
    assert arena_bytes(model) <= arena_bytes(plain)
    assert outcome(network, model) == outcome(network, plain)


def test_a_slice_that_would_keep_a_large_map_alive_is_copied() -> None:
    def viewed_anyway(program: Program, *options: bool) -> Program:
        return order(slices_as_views(program, contiguous_slices(program)), *options)

    model, program = compiled(TAIL)
    with mock.patch.object(test_strips.schedule_stage, "order", viewed_anyway):
        forced, viewed = compiled(TAIL, views=False)
    assert (copies(program), copies(viewed)) == (1, 0)
    assert arena_bytes(model) < arena_bytes(forced)
    assert outcome(TAIL, model) == outcome(TAIL, forced)


def made(op: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> Step:
    return Step(output, op, inputs, (output,), MappingProxyType(attributes))


def feature(name: str, *shape: int) -> Tensor:
    return Tensor(name, (1, *shape), "int8", "activation")


def program_of(tensors: list[Tensor], *steps: Step) -> Program:
    return Program("p", {t.name: t for t in tensors}, steps, {}, "x", "x", "logits", "mse")


def test_a_map_is_not_written_over_while_a_view_of_it_is_read() -> None:
    tensors = [feature(name, 4, 3, 2) for name in ("a", "z")] + [feature("v", 1, 3, 2)]
    cut = made("slice", ("a",), "v", begin=(0, 2, 0, 0), shape=(1, 1, 3, 2))
    product = made("multiply", ("a", "v"), "z")
    program = program_of([*tensors, feature("logits", 1, 1, 1)], cut, product)
    assert overlap_distance(product, program, "a") == 0
    viewed = slices_as_views(program, contiguous_slices(program))
    assert viewed.steps == (product,)
    assert viewed.storage("v") == ("a", 12)
    assert overlap_distance(product, viewed, "a") is None


def test_a_strip_keeps_all_of_a_map_that_is_read_through_a_view() -> None:
    window = {"stride": (1, 1), "padding": (1, 1, 1, 1), "groups": 1}
    tensors = [feature(name, 8, 3, 2) for name in ("x", "a", "b")] + [
        feature("v", 2, 3, 2),
        feature("z", 2, 3, 2),
        feature("logits", 1, 1, 1),
        Tensor("w", (2, 3, 3, 2), "int8", "parameter"),
    ]
    steps = [
        made("conv2d", ("x", "w", "w"), "a", **window),
        made("conv2d", ("a", "w", "w"), "b", **window),
    ]
    layout = strip_layout(program_of(tensors, *steps), Strip(0, 1, 2))
    assert layout is not None
    assert set(layout.buffer_rows) == {"a"}
    cut = made("slice", ("a",), "v", begin=(0, 2, 0, 0), shape=(1, 2, 3, 2))
    read = made("conv2d", ("v", "w", "w"), "z", **window)
    viewed = slices_as_views(program_of(tensors, *steps, cut, read), ["v"])
    layout = strip_layout(viewed, Strip(0, 1, 2))
    assert layout is not None
    assert set(layout.buffer_rows) == set()
