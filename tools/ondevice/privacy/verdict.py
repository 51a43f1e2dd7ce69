"""What the figures say, in sentences; nothing in them is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from ondevice.privacy.results import Audit, Row


def verdict(audit: Audit) -> list[str]:
    """Sentences about the rows that were measured.

    Args:
        audit: At least one row.
    """
    lines = [*_base(audit.rows), *_device(audit.rows)]
    lines += _pruning(audit.rows, False) + _pruning(audit.rows, True) + _noise(audit.rows)
    lines.append(
        "An attack that fails is no proof of privacy: another one, more restarts or a better prior "
        "may succeed."
    )
    return lines


def best_of(rows: Sequence[Row]) -> list[Row]:
    """Of each scenario the attack that recovered most; the lower error where they are equal."""
    best: dict[str, Row] = {}
    for row in rows:
        before = best.get(row.scenario.name)
        if before is None or _success(row) > _success(before):
            best[row.scenario.name] = row
    return list(best.values())


def _success(row: Row) -> tuple[int, float]:
    return row.recognisable, -row.mse


def _share(row: Row) -> str:
    return f"{row.recognisable} of {len(row.scores)}"


def _base(rows: Sequence[Row]) -> list[str]:
    base = [row for row in rows if row.scenario.name == "float32"]
    if not base:
        return []
    row = best_of(base)[0]
    verb = "gives" if row.recognisable else "did not give"
    ssim = "" if row.ssim is None else f", SSIM {row.ssim:.2f}"
    return [
        f"The full dense float32 update of one sample {verb} the input away: {_share(row)} samples "
        f"recognisable by {row.attack} (PSNR {row.psnr_db:.0f} dB{ssim}), "
        f"{100 * row.labels_recovered:.0f} % of the labels."
    ]


def _device(rows: Sequence[Row]) -> list[str]:
    groups = ("device", "batch", "compression", "dp")
    best = [
        row
        for row in best_of([r for r in rows if r.scenario.group in groups])
        if row.scenario.name != "float32"
    ]
    given = [f"{row.scenario.title} ({_share(row)})" for row in best if row.recognisable]
    kept = [row.scenario.title for row in best if not row.recognisable]
    lines = []
    if given:
        lines.append(f"Recovered from what the device sends: {'; '.join(given)}.")
    if kept:
        lines.append(f"Not recovered: {'; '.join(kept)}.")
    return lines


def _pruning(rows: Sequence[Row], sent_only: bool) -> list[str]:
    swept = [
        row
        for row in best_of([row for row in rows if row.scenario.group == "pruning"])
        if row.scenario.sent_only == sent_only
    ]
    if not swept:
        return []
    who = (
        "an attacker who matches only what was sent"
        if sent_only
        else "an attacker who takes what was left out for 0 (as in Zhu et al.)"
    )
    swept.sort(key=_amount)
    safe = first_safe([row.recognisable for row in swept])
    if safe is None:
        last = swept[-1]
        return [
            f"Pruning, {who}: even at {100 * _amount(last):g} % sparsity {_share(last)} samples "
            "are recognisable."
        ]
    if safe == 0:
        return [f"Pruning, {who}: none is recognisable from {100 * _amount(swept[0]):g} % on."]
    before = swept[safe - 1]
    return [
        f"Pruning, {who}: from {100 * _amount(swept[safe]):g} % sparsity on no sample is "
        f"recognisable; at {100 * _amount(before):g} % {_share(before)} still are."
    ]


def _noise(rows: Sequence[Row]) -> list[str]:
    lines = []
    for kind, word in (("gaussian", "Gaussian"), ("laplace", "Laplacian")):
        swept = [
            row
            for row in best_of([row for row in rows if row.scenario.group == "noise"])
            if row.scenario.defence is not None and row.scenario.defence.kind == kind
        ]
        if not swept:
            continue
        swept.sort(key=_amount)
        safe = first_safe([row.recognisable for row in swept])
        text = f"{word} noise: "
        broken = swept[:safe] if safe is not None else swept
        if broken:
            row = broken[-1]
            text += (
                f"variance up to {_amount(row):g} ({_power(row)} of the gradient's power) does not "
                f"defend, {_share(row)} samples are recognisable"
            )
        if safe is not None:
            row = swept[safe]
            text += "; " if broken else ""
            text += f"from {_amount(row):g} ({_power(row)}) on none is recognisable"
        lines.append(f"{text}.")
    return lines


def first_safe(recognisable: Sequence[int]) -> int | None:
    """Index from which on nothing is recognisable; None: something is at the end."""
    for index in range(len(recognisable)):
        if not any(recognisable[index:]):
            return index
    return None


def _amount(row: Row) -> float:
    assert row.scenario.defence is not None
    return row.scenario.defence.amount


def _power(row: Row) -> str:
    return f"{100 * row.noise_to_gradient:.2g} %"
