"""One rule an operator of TVM's frontends: what it is in the normal form."""

from __future__ import annotations

from ondevice_compiler.load.rules import (
    activation,
    arrange,
    convolution,
    elementwise,
    heads,
    pool,
    sequence,
    shape,
)
from ondevice_compiler.load.rules.rule import Rule, unsupported

RULES: dict[str, Rule] = {
    "unsupported": unsupported,
    **shape.RULES,
    **activation.RULES,
    **convolution.RULES,
    **pool.RULES,
    **elementwise.RULES,
    **arrange.RULES,
    **heads.RULES,
    **sequence.RULES,
}
