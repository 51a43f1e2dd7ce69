"""RAM of one training step, rung by rung: full, sparse, reordered, in place, patched.

    make ladder

Nothing is run: the figures are the compiler's exact plan. Writes docs/memory.md and
docs/memory.svg.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
from zoo import NETWORKS, ROOT, Network

from ondevice_compiler.compile import CompileOptions, analyse, plan_scheme
from ondevice_compiler.memory import MemoryNeed

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NAMES = ("mcunet-5fps", "mobilenetv2-w0.35", "mobilenetv1-vww")
PARTS: dict[str, Callable[[MemoryNeed], int]] = {
    "arena": lambda need: need.arena_bytes,
    "trained parameters": lambda need: need.parameter_bytes + need.state_bytes,
    "scales, label, output": lambda need: need.scale_bytes + need.io_bytes,
}
REFERENCE = {
    "mcunet-5fps": "Reference (MIT tiny-training, the same scheme, 128x128): arena 189,800 B, "
    "weights 36 KB, stack 21 KB: 247 KB in all; its paper counts 173 KB.",
    "mobilenetv2-w0.35": "Reference (paper, sparse and reordered): 141 KB.",
}
INTRODUCTION = """# RAM of a training step

Written by `make ladder`, from the compiler's plan: int8, batch 1, SGD, bytes. The stack and the
runtime's session come on top (measured in [networks.md](networks.md)). Each rung keeps what the
one above it does.

* **full**: every parameter is trained; **sparse**: the network's scheme in benchmarks/schemes, for
  the first two networks MIT's published "49 KB" ones. Weight gradients are never stored: each is
  consumed by its update as it is computed.
* **reordered**: the order of steps found by beam search for the least peak.
* **in place**: an output is written over an input that dies, as far behind as the kernel's window
  still reads.
* **patched**: runs of early steps are executed band by band of rows; halos are kept, not
  recomputed.
* **full, recomputed**: activations computed again in backward, for at most a tenth more
  multiply-accumulates (`remat_macs_cap`).

The training step computes the same bits on every rung of a scheme.

![RAM by rung](memory.svg)"""
_PLAIN = CompileOptions(reorder=False, in_place=False, patch=False)
RUNGS = {
    "full": ("full", _PLAIN),
    "sparse": ("sparse", _PLAIN),
    "reordered": ("sparse", replace(_PLAIN, reorder=True)),
    "in place": ("sparse", replace(_PLAIN, reorder=True, in_place=True)),
    "patched": ("sparse", CompileOptions()),
    "full, patched": ("full", CompileOptions()),
    "full, recomputed": ("full", CompileOptions(remat_macs_cap=0.1)),
}


@dataclass(frozen=True)
class Rung:
    """One line of a ladder.

    Attributes:
        network, name: Whose, and what has been done.
        need: Its RAM.
    """

    network: str
    name: str
    need: MemoryNeed


def ladder(network: Network) -> Iterable[Rung]:
    """All rungs of a network."""
    x, y = network.samples(8)
    base = CompileOptions(head=network.head, loss=network.loss)
    analysis = analyse(network.source(), x, y, base)
    for name, (scheme, options) in RUNGS.items():
        chosen = "full" if scheme == "full" else network.sparse
        planned = plan_scheme(
            analysis, replace(options, scheme=chosen, head=network.head, loss=network.loss)
        )
        yield Rung(network.name, name, planned.memory)


def table(rungs: list[Rung]) -> str:
    """The rungs of one network as a Markdown table."""
    lines = [
        "| | " + " | ".join(PARTS) + " | RAM of the model |",
        "|---|" + "---:|" * (len(PARTS) + 1),
    ]
    for rung in rungs:
        figures = [part(rung.need) for part in PARTS.values()]
        cells = [f"{figure:,}" for figure in (*figures, rung.need.ram_bytes)]
        lines.append(f"| {rung.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def document(rungs: list[Rung]) -> str:
    """docs/memory.md."""
    parts = [INTRODUCTION]
    for name in dict.fromkeys(rung.network for rung in rungs):
        parts += ["", f"## {name}", "", table([r for r in rungs if r.network == name])]
        if name in REFERENCE:
            parts += ["", REFERENCE[name]]
    return "\n".join(parts) + "\n"


def draw(rungs: list[Rung], path: Path) -> None:
    """A bar a rung, stacked by part."""
    names = list(dict.fromkeys(rung.network for rung in rungs))
    plt.rcParams["svg.hashsalt"] = "ondevice"
    figure, axes = plt.subplots(len(names), 1, figsize=(8, 2.6 * len(names)), layout="constrained")
    for axis, name in zip(axes if len(names) > 1 else [axes], names, strict=True):
        mine = [rung for rung in rungs if rung.network == name]
        left = [0.0] * len(mine)
        for part, read in PARTS.items():
            widths = [read(rung.need) / 1024 for rung in mine]
            axis.barh([rung.name for rung in mine], widths, left=left, label=part)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        for row, total in enumerate(left):
            axis.text(total, row, f" {total:.0f}", va="center")
        axis.invert_yaxis()
        axis.set_title(name)
        axis.set_xlabel("KB")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NAMES, help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    rungs: list[Rung] = []
    for name in arguments.networks:
        if not NETWORKS[name].available:
            print(f"{name}: its file is not here, skipped")
            continue
        found = list(ladder(NETWORKS[name]))
        print(f"{name}\n{table(found)}\n", flush=True)
        rungs += found
    if rungs:
        (arguments.output / "memory.md").write_text(document(rungs), encoding="utf-8")
        draw(rungs, arguments.output / "memory.svg")


if __name__ == "__main__":
    main()
