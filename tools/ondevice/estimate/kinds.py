"""What an instruction is, as far as the cost models care."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal[
    "alu",
    "it",
    "dsp",
    "multiply",
    "mac",
    "divide",
    "load",
    "store",
    "load_multiple",
    "store_multiple",
    "branch",
    "fp",
    "fp_mac",
    "fp_divide",
    "fp_move",
    "other",
]

_CONDITION = "(?:eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le)?"
# The first that matches decides; {c} stands for a condition.
_KINDS: tuple[tuple[str, Kind], ...] = (
    (r"(b|bl|bx|blx){c}|cbn?z|tb[bh]", "branch"),
    (r"it[te]*", "it"),
    (r"(ldm|pop|vldm|vpop).*|ldrd{c}", "load_multiple"),
    (r"(stm|push|vstm|vpush).*|strd{c}", "store_multiple"),
    (r"(ldr|vldr).*", "load"),
    (r"(str|vstr).*", "store"),
    (r"[su]div{c}", "divide"),
    (r"(mla|mls|smla|smls|smmla|smmls|umla|umaa).*", "mac"),
    (r"(mul|smul|smmul|smua|smus|umul).*", "multiply"),
    (r"(q|s|u|sh|uh|uq)((add|sub)(8|16)|asx|sax){c}", "dsp"),
    (r"(pkh(bt|tb)|sel|usada?8|[su]xta?b16|qd?add|qd?sub|[su]sat(16)?){c}", "dsp"),
    (r"v(div|sqrt).*", "fp_divide"),
    (r"v(n?mla|n?mls|fn?ma|fn?ms).*", "fp_mac"),
    (r"v(mov|mrs|msr).*", "fp_move"),
    (r"v.*", "fp"),
    (r"(nop|dmb|dsb|isb|bkpt|svc|cps|msr|mrs|wf[ei]|udf).*", "other"),
)
_MATCHERS: list[tuple[re.Pattern[str], Kind]] = [
    (re.compile(pattern.replace("{c}", _CONDITION)), kind) for pattern, kind in _KINDS
]


def kind_of(mnemonic: str) -> Kind:
    """The kind of an instruction, by its mnemonic without width: "ldrb", "addne", "vmul.f32"."""
    return next((kind for matcher, kind in _MATCHERS if matcher.fullmatch(mnemonic)), "alu")
