"""One thing that was looked for."""

from __future__ import annotations

from dataclasses import dataclass

ANY_BOARD = frozenset({"host", "qemu", "renode", "serial"})
CORTEX_M = frozenset({"qemu", "renode", "serial"})
NOBODY = frozenset[str]()


@dataclass(frozen=True)
class Check:
    """What was looked for, and what came of it.

    Attributes:
        family: Heading under which it is shown.
        name: What was looked for.
        ok: It is there, and good.
        text: What was found; where it is not ok, what is wrong and how to get it.
        needed_by: How boards run that cannot do without it (`Board.run`); none: it is optional.
    """

    family: str
    name: str
    ok: bool
    text: str
    needed_by: frozenset[str] = NOBODY

    def state(self, run: str) -> str:
        """ "ok", "missing" or "optional", for a board that runs in this way."""
        if self.ok:
            return "ok"
        return "missing" if run in self.needed_by else "optional"
