"""Errors a user can cause and mend."""

from __future__ import annotations


class UserError(Exception):
    """What went wrong, what was found and allowed, and what to do, in one line."""


class UnsupportedOperatorsError(UserError):
    """The model uses operators that the compiler does not know; names all of them."""

    def __init__(self, names: list[str], source: str) -> None:
        self.names = names
        super().__init__(
            f"{source}: unsupported operators: {', '.join(names)}; "
            "replace them or see docs/operators.md for the supported ones"
        )


class DoesNotFitError(UserError):
    """The plan needs more memory than the board has."""
