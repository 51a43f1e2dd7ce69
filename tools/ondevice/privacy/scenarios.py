"""The rows of an audit: what is sent, and by whom it is attacked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from ondevice.config import ModelSettings
from ondevice.privacy.arrangement import Arrangement
from ondevice.privacy.attack import AttackName
from ondevice.privacy.defences import Defence
from ondevice_compiler.atomic_file import write_text_atomically

Group = Literal["device", "batch", "compression", "dp", "noise", "pruning"]

LEARNING_RATE = 0.1
SMALL_LEARNING_RATE = 0.01
VARIANCES = (1e-4, 1e-3, 1e-2, 1e-1)
SPARSITIES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99)
HARD_SPARSITY = 0.7  # from here on, where L2 alone fails, the other attack is tried, too
NOISE_MULTIPLIERS = (0.001, 0.01, 0.1, 1.0)  # of DP-SGD, relative to its clip norm
CLIP_NORM = 1.0
PRIVATE_LOT = 2
SPARSE_SHARE = 0.25
ALL_ATTACKS: tuple[AttackName, ...] = ("dlg", "idlg", "cosine")
TWO_ATTACKS: tuple[AttackName, ...] = ("idlg", "cosine")
L2_ATTACK: tuple[AttackName, ...] = ("idlg",)


@dataclass(frozen=True)
class Scenario:
    """One row, apart from the attack.

    Attributes:
        name: Of machines.
        title: For people.
        group: Which part of the report it belongs to.
        options: Keys of [model] that the device's code is compiled with.
        batch: Samples in the update.
        accumulate: They are one update of their mean gradient; else one update each.
        passes: Over them.
        learning_rate: Of each update.
        defence: Done to the decoded update on the host; None: nothing.
        sent_only: The attacker matches only what was sent; else what compression left out counts
            as a gradient of 0.
        attacks: That are tried.
    """

    name: str
    title: str
    group: Group
    options: Mapping[str, object] = field(default_factory=dict)
    batch: int = 1
    accumulate: bool = True
    passes: int = 1
    learning_rate: float = LEARNING_RATE
    defence: Defence | None = None
    sent_only: bool = False
    attacks: tuple[AttackName, ...] = TWO_ATTACKS

    @property
    def compiled(self) -> dict[str, object]:
        """All keys of [model] that it is compiled with."""
        every = self.batch if self.accumulate else 1
        return {**self.options, "accumulation_steps": every}


FLOAT: dict[str, object] = {"dtype": "float32", "scheme": "full"}
INT8: dict[str, object] = {"dtype": "int8", "scheme": "full"}
BASE = Scenario("float32", "float32, full", "device", FLOAT, attacks=ALL_ATTACKS)


def configured_scenarios(settings: ModelSettings) -> list[Scenario]:
    """The row of the user's own settings; none where they are the defaults.

    Args:
        settings: With options and the project's file laid over the defaults.
    """
    plain = ModelSettings()
    options = {
        item.name: getattr(settings, item.name)
        for item in fields(ModelSettings)
        if item.name not in ("file", "tuning")
        and getattr(settings, item.name) != getattr(plain, item.name)
    }
    if not options:
        return []
    words = ", ".join(f"{key} {value}" for key, value in options.items())
    batch = settings.accumulation_steps
    return [Scenario("configured", f"as set: {words}", "device", options, batch=batch)]


def quick_scenarios() -> list[Scenario]:
    """Two compiled models, one sweep each: a first look."""
    rows = [replace(BASE, attacks=TWO_ATTACKS), _int8()]
    rows += _noise((1e-4, 1e-1), ("gaussian",), quick=True)
    rows += _pruning((0.5, 0.9, 0.99), quick=True)
    return rows


def all_scenarios(
    arrangement: Arrangement, batches: Sequence[int], build_root: Path
) -> list[Scenario]:
    """Everything: schemes, batches, compression and the sweeps of the lectures.

    Args:
        arrangement: Of the network.
        batches: Sizes of batches beside 1.
        build_root: Where the sparse scheme's file is written.
    """
    rows = [BASE, _int8(), _int8(SMALL_LEARNING_RATE)]
    for scheme in ("last-2", "bias", "last"):
        rows.append(
            Scenario(f"int8-{scheme}", f"int8, {scheme}", "device", {**INT8, "scheme": scheme})
        )
    file = sparse_scheme(arrangement, build_root)
    if file is not None:
        rows.append(
            Scenario("int8-sparse", "int8, sparse", "device", {**INT8, "scheme": f"sparse:{file}"})
        )
    rows += _batches(batches)
    rows += [*compressed_scenarios(), *private_scenarios()]
    return rows + _noise(VARIANCES, ("gaussian", "laplace")) + _pruning(SPARSITIES)


def _int8(learning_rate: float = LEARNING_RATE) -> Scenario:
    usual = learning_rate == LEARNING_RATE
    name = "int8" if usual else f"int8-lr{learning_rate:g}"
    title = "int8, full" if usual else f"int8, full, learning rate {learning_rate:g}"
    return Scenario(name, title, "device", INT8, learning_rate=learning_rate)


def _batches(batches: Sequence[int]) -> Iterator[Scenario]:
    for batch in (size for size in batches if size > 1):
        for label, options in (("float32", FLOAT), ("int8", INT8)):
            yield Scenario(
                f"{label}-batch{batch}",
                f"{label}, batch {batch}",
                "batch",
                options,
                batch=batch,
            )
    yield Scenario(
        "float32-local4",
        "float32, 4 local steps on one sample",
        "batch",
        FLOAT,
        passes=4,
        learning_rate=SMALL_LEARNING_RATE,
    )


def compressed_scenarios() -> Iterator[Scenario]:
    """Rows of what the device compresses itself."""
    for ratio in (0.1, 0.01):
        options = {**INT8, "compress": "topk", "compress_ratio": ratio}
        row = Scenario(f"topk{ratio:g}", f"int8, top-k {100 * ratio:g} %", "compression", options)
        yield row
        yield replace(row, name=f"{row.name}-sent", title=f"{row.title}, sent only", sent_only=True)
    for codec in ("ternary", "sign", "int8"):
        options = {**INT8, "compress": codec}
        yield Scenario(f"coded-{codec}", f"int8, {codec} coded", "compression", options)


def private_scenarios() -> Iterator[Scenario]:
    """Rows of DP-SGD on the device, with the least lot that it takes."""
    for multiplier in NOISE_MULTIPLIERS:
        yield Scenario(
            f"dp{multiplier:g}",
            f"int8, DP-SGD, batch {PRIVATE_LOT}, noise {multiplier:g} x clip",
            "dp",
            {**INT8, "dp_clip_norm": CLIP_NORM, "dp_noise_multiplier": multiplier},
            batch=PRIVATE_LOT,
        )


def _noise(
    variances: Sequence[float],
    kinds: Sequence[Literal["gaussian", "laplace"]],
    quick: bool = False,
) -> list[Scenario]:
    return [
        Scenario(
            f"{kind}-{variance:g}",
            f"float32 + {'Gaussian' if kind == 'gaussian' else 'Laplacian'} noise, "
            f"variance {variance:g}",
            "noise",
            FLOAT,
            defence=Defence(kind, variance),
            attacks=L2_ATTACK if quick else TWO_ATTACKS,
        )
        for kind in kinds
        for variance in variances
    ]


def _pruning(sparsities: Sequence[float], quick: bool = False) -> list[Scenario]:
    return [
        Scenario(
            f"prune-{share:g}{'-sent' if sent_only else ''}",
            f"float32, {100 * share:g} % pruned{', sent only' if sent_only else ''}",
            "pruning",
            FLOAT,
            defence=Defence("prune", share),
            sent_only=sent_only,
            attacks=TWO_ATTACKS if share >= HARD_SPARSITY and not quick else L2_ATTACK,
        )
        for sent_only in (False, True)
        for share in sparsities
    ]


def sparse_scheme(arrangement: Arrangement, build_root: Path) -> Path | None:
    """Writes a sparse scheme: all biases, the last layer, a quarter of the layer's before it.

    Returns:
        None: there is no layer before it.
    """
    last = arrangement.last_layer
    layers = [
        name.rpartition(".")[0]
        for name, shape in arrangement.shapes.items()
        if name.endswith(".weight") and len(shape) == 4 and shape[-1] > 1
    ]
    before = [layer for layer in layers if layer != last]
    if not before:
        return None
    text = f'weights = ["{last}"]\nbiases = "all"\n[channels]\n"{before[-1]}" = {SPARSE_SHARE}\n'
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = build_root / "privacy" / f"sparse-{digest}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, text)
    return path
