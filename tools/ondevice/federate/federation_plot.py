"""A federated run as a picture: accuracy, and what travelled, over rounds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ondevice.plot import Picture
from ondevice_compiler.atomic_file import write_bytes_atomically

KIB = 1024


def write_federation_curves(
    path: Path, rounds: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> None:
    """Draws accuracy and loss on held-out samples, and bytes a client, as a PNG.

    Args:
        path: Of the picture.
        rounds: Records of `RoundEnded`.
        evaluations: Records of `GlobalEvaluated`.
    """
    figure = Picture(figsize=(8, 7), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    measured = [e["round"] for e in evaluations]
    top.plot(measured, [100 * e["accuracy"] for e in evaluations], "o-")
    top.set_ylabel("held-out accuracy (%)")
    middle.plot(measured, [e["loss"] for e in evaluations], "o-", label="held-out")
    numbers = [r["round"] for r in rounds]
    middle.plot(numbers, [r["loss"] for r in rounds], label="local steps")
    middle.set_ylabel("loss")
    middle.legend()
    for key, label in (("up_bytes", "update of a client"), ("down_bytes", "weights to a client")):
        per_client = [r[key] / KIB / max(r["answered"], 1) for r in rounds]
        bottom.plot(numbers, per_client, label=label)
    bottom.set_ylabel("KB")
    bottom.set_yscale("log")
    bottom.set_xlabel("round")
    bottom.legend()
    write_bytes_atomically(path, figure.png())
