"""The figures of a finished run: as a dictionary for machines, as a table for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from ondevice.display import format_bytes
from ondevice.link.messages import DeviceInfo
from ondevice.outcome import TrainingOutcome
from ondevice.training_device import counter_unit

if TYPE_CHECKING:
    from ondevice.build import Firmware


def summarise(
    outcome: TrainingOutcome,
    manifest: dict[str, Any],
    info: DeviceInfo,
    firmware: "Firmware | None",
    training_s: float,
    privacy: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Gathers the figures of a run.

    Args:
        outcome: Of the loop.
        manifest: Of the compiled model.
        info: Of the device.
        firmware: As built; None where it was not built here.
        training_s: Wall time of the loop.
        privacy: What was spent of it, in DP-SGD.

    Returns:
        JSON-ready figures; None where something was not measured.
    """
    memory = manifest["memory"]
    gradients = sum(int(scale.get("elements", 0)) for scale in manifest["scales"])
    seen = gradients * outcome.steps
    unit = counter_unit(info)
    return {
        "model_id": manifest["model_id"],
        "model": manifest["name"],
        "dtype": manifest["dtype"],
        "scheme": manifest["scheme"]["name"],
        "board": info.board,
        "steps": outcome.steps,
        "interrupted": outcome.interrupted,
        "reconnects": outcome.reconnects,
        "rollbacks": outcome.rollbacks,
        "steps_unseen": int(np.isnan(outcome.losses).sum()),
        "accuracy_before": outcome.before.accuracy if outcome.before else None,
        "accuracy_after": outcome.after.accuracy if outcome.after else None,
        "loss_before": outcome.before.loss if outcome.before else None,
        "loss_after": outcome.after.loss if outcome.after else None,
        "counter": unit,
        "count_per_step": float(outcome.counts.mean()) if len(outcome.counts) else None,
        "count_per_step_max": int(outcome.counts.max()) if len(outcome.counts) else None,
        "ram_bytes": int(memory["ram_bytes"]),
        "arena_planned_bytes": int(memory["arena_bytes"]),
        "arena_measured_bytes": outcome.memory.arena_high_water_bytes,
        "arena_lower_bound_bytes": int(memory["lower_bound_bytes"]),
        "stack_reserved_bytes": info.stack_bytes or None,
        "stack_measured_bytes": outcome.memory.stack_high_water_bytes or None,
        "firmware_ram_bytes": firmware.ram_bytes if firmware else None,
        "flash_bytes": firmware.flash_bytes if firmware else None,
        "firmware_digest": firmware.image.digest.hex() if firmware else None,
        "gradients_saturated": outcome.counters.saturated,
        "gradients_zeroed": outcome.counters.zeros,
        "gradients_saturated_share": outcome.counters.saturated / seen if seen else None,
        "gradients_zeroed_share": outcome.counters.zeros / seen if seen else None,
        "training_s": round(training_s, 3),
        **({"privacy": privacy} if privacy is not None else {}),
    }


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Lays the figures out; a row whose figure was not measured is left out."""
    table = Table(
        title=f"{summary['model']} on {summary['board']}: {summary['steps']} steps, "
        f"{summary['dtype']}, update {summary['scheme']}"
    )
    table.add_column("")
    table.add_column("before / planned", justify="right")
    table.add_column("after / measured", justify="right")
    _row(table, "accuracy", *map(_percent, _pair(summary, "accuracy_before", "accuracy_after")))
    _row(table, "loss", *map(_number, _pair(summary, "loss_before", "loss_after")))
    arena = _pair(summary, "arena_planned_bytes", "arena_measured_bytes")
    _row(table, "RAM: arena", *map(_bytes, arena))
    _row(table, "RAM: model in all", _bytes(summary["ram_bytes"]), "")
    stack = _pair(summary, "stack_reserved_bytes", "stack_measured_bytes")
    _row(table, "RAM: stack", *map(_bytes, stack))
    _row(table, "RAM: firmware in all, with stack", _bytes(summary["firmware_ram_bytes"]), "")
    _row(table, "flash", _bytes(summary["flash_bytes"]), "")
    if summary["count_per_step"] is not None:
        _row(
            table, f"{summary['counter']} a training step", "", f"{summary['count_per_step']:,.0f}"
        )
    if summary["dtype"] == "int8":
        for name, key in (("saturated", "saturated"), ("rounded to 0", "zeroed")):
            share = _percent(summary[f"gradients_{key}_share"])
            count = f"{summary[f'gradients_{key}']:,}"
            _row(table, f"gradients {name}", "", f"{count} ({share})" if share else count)
    for name, figure in _privacy_rows(summary.get("privacy")):
        _row(table, name, "", figure)
    for name in ("reconnects", "rollbacks"):
        _row(table, name, "", str(summary[name]) if summary[name] else "")
    return table


def _privacy_rows(privacy: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if privacy is None:
        return []
    spent = privacy["epsilon"]
    clip, noise = privacy["clip_norm"], privacy["noise_multiplier"]
    unbounded = "no bound (no noise)" if noise == 0 else "unknown (needs the extra [privacy])"
    return [
        ("privacy: clip norm, noise multiplier", f"{clip:g}, {noise:g}"),
        (
            f"privacy: epsilon at delta {privacy['delta']:.3g}",
            unbounded if spent is None else f"{spent:.3f}",
        ),
    ]


def _row(table: Table, name: str, first: str, second: str) -> None:
    if first or second:
        table.add_row(name, first, second)


def _pair(summary: Mapping[str, Any], first: str, second: str) -> tuple[Any, Any]:
    return summary[first], summary[second]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _bytes(count: int | None) -> str:
    return "" if count is None else format_bytes(count)


def describe_result(summary: Mapping[str, Any]) -> str:
    """Says in one line what a run brought."""
    done = "interrupted after" if summary["interrupted"] else "completed"
    before, after = map(_percent, _pair(summary, "accuracy_before", "accuracy_after"))
    change = f": accuracy {before} -> {after}" if before and after else ""
    return f"{done} {summary['steps']} steps on {summary['board']}{change}"
