"""RAM and flash of a compiled model against a board, before anything is flashed."""

from dataclasses import dataclass
from typing import Any

from ondevice.display import format_bytes
from ondevice.errors import UserError

BIGGEST_TENSORS = 3


class BudgetError(UserError):
    """The model does not fit the board."""


@dataclass(frozen=True)
class Budget:
    """What a model takes and a board has; the linker has the last word, firmware included.

    Attributes:
        model_ram_bytes: Arena, parameters, state and scales.
        stack_bytes: Reserved by the board for the stack.
        board_ram_bytes: All of the board's RAM; None: no limit (the host).
        model_flash_bytes: Constants: initial weights and tables, without code.
        board_flash_bytes: The board's flash, without what keeps checkpoints; None: no limit.
    """

    model_ram_bytes: int
    stack_bytes: int
    board_ram_bytes: int | None
    model_flash_bytes: int
    board_flash_bytes: int | None

    @property
    def ram_limit_bytes(self) -> int | None:
        """What is left for the model."""
        if self.board_ram_bytes is None:
            return None
        return self.board_ram_bytes - self.stack_bytes


def check_budget(budget: Budget, manifest: dict[str, Any], board: str) -> None:
    """Refuses a model that cannot fit.

    Raises:
        BudgetError: Says by how much, and which tensors are the biggest.
    """
    limit = budget.ram_limit_bytes
    if limit is not None and budget.model_ram_bytes > limit:
        raise BudgetError(
            f"model {manifest['name']!r} does not fit {board}: it needs "
            f"{format_bytes(budget.model_ram_bytes)} of RAM, {format_bytes(limit)} are left "
            f"beside a stack of {format_bytes(budget.stack_bytes)}: "
            f"{format_bytes(budget.model_ram_bytes - limit)} too much; biggest tensors: "
            f"{biggest_tensors(manifest)}; choose a smaller --scheme or model, or another --board"
        )
    flash = budget.board_flash_bytes
    if flash is not None and budget.model_flash_bytes > flash:
        raise BudgetError(
            f"model {manifest['name']!r} does not fit {board}: its constants take "
            f"{format_bytes(budget.model_flash_bytes)} of {format_bytes(flash)} of flash: "
            f"{format_bytes(budget.model_flash_bytes - flash)} too much; choose a smaller model "
            "or another --board"
        )


def biggest_tensors(manifest: dict[str, Any]) -> str:
    """Lists the biggest tensors in RAM: of the arena, and parameters."""
    tensors = [*manifest["memory"].get("tensors", ()), *manifest["parameters"]]
    ordered = sorted(tensors, key=lambda tensor: (-int(tensor["bytes"]), str(tensor["name"])))
    return ", ".join(
        f"{tensor['name']} {format_bytes(int(tensor['bytes']))}"
        for tensor in ordered[:BIGGEST_TENSORS]
    )


def budget_lines(budget: Budget, manifest: dict[str, Any], board: str) -> list[str]:
    """Prints a budget in a few lines."""
    memory = manifest["memory"]
    parts = [("arena", "arena_bytes"), ("parameters", "parameter_bytes")]
    parts += [("state", "state_bytes"), ("scales", "scale_bytes")]
    detail = ", ".join(
        f"{name} {format_bytes(int(memory[key]))}" for name, key in parts if memory.get(key)
    )
    return [
        f"Model {manifest['name']} ({manifest['dtype']}, update {manifest['scheme']['name']}), "
        f"id {manifest['model_id']}",
        f"RAM   {format_bytes(budget.model_ram_bytes)} ({detail})"
        + _of(budget.ram_limit_bytes, board, f"beside {format_bytes(budget.stack_bytes)} of stack"),
        f"Flash {format_bytes(budget.model_flash_bytes)} of constants"
        + _of(budget.board_flash_bytes, board, "with the code"),
    ]


def _of(limit_bytes: int | None, board: str, beside: str) -> str:
    return "" if limit_bytes is None else f"; {board} has {format_bytes(limit_bytes)} {beside}"
