"""Transfer learning by the device's code: MCUNet's ImageNet features learn Fashion-MNIST.

    make transfer

Every scheme of the lectures, float32 against int8, run in this process; learning rates are chosen
on a validation split of the training data. Writes docs/transfer.md. Finished runs are kept in
build/transfer.jsonl, so that an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from adaptation import BUILD, ROOT, Row, RunLog, Study
from numpy.typing import NDArray
from rich.progress import Progress

from ondevice.compiled_model import CompileRequest, compile_to_cache
from ondevice.config import ModelSettings
from ondevice.data import Dataset, calibration_subset

MODEL = ROOT.parent / "shared" / "data" / "tiny-training" / "mcunet-5fps.pkl"
IMAGES = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist.
SPARSE = ROOT / "benchmarks" / "schemes" / "mcunet-5fps-49kb.toml"
SCHEMES = ("last", "last-4", "last-7", "bias", "bn", "tinytl", f"sparse:{SPARSE}", "full")
DTYPES = ("int8", "float32")
CLASSES = 10
IMAGE_SIZE = 128
TRAIN_PER_CLASS, VALIDATION_PER_CLASS, TEST_PER_CLASS = 40, 40, 100
EPOCHS = 4
LEARNING_RATES = (0.0003, 0.001, 0.003, 0.01)
SEEDS = (0, 1, 2)


def read_images(folder: Path, part: str, first: int, count: int) -> tuple[NDArray[Any], Any]:
    """`count` images of each class from the `first` one on, and their labels.

    Returns:
        x float32 [n, 3, 128, 128] in [-1, 1], enlarged bilinearly; y [n].
    """
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    chosen = np.concatenate(
        [np.flatnonzero(labels == label)[first : first + count] for label in range(CLASSES)]
    )
    scaled = pixels[chosen].astype(np.float32) / 127.5 - 1.0
    position = np.clip((np.arange(IMAGE_SIZE) + 0.5) * 28 / IMAGE_SIZE - 0.5, 0, 27)
    low = np.minimum(position.astype(int), 26)
    part_high = (position - low).astype(np.float32)
    for axis in (1, 2):
        weight = part_high[:, None] if axis == 1 else part_high
        below, above = np.take(scaled, low, axis), np.take(scaled, low + 1, axis)
        scaled = below * (1 - weight) + above * weight
    return np.repeat(scaled[:, None], 3, axis=1), labels[chosen].astype(np.int64)


def data_sets(folder: Path) -> tuple[Dataset, Dataset]:
    """(training + validation part, training + test part)."""
    x, y = read_images(folder, "train", 0, TRAIN_PER_CLASS)
    held = read_images(folder, "train", TRAIN_PER_CLASS, VALIDATION_PER_CLASS)
    test = read_images(folder, "t10k", 0, TEST_PER_CLASS)
    name = f"fashion-mnist {TRAIN_PER_CLASS}/{VALIDATION_PER_CLASS}/{TEST_PER_CLASS}"
    return Dataset(x, y, *held, source=name), Dataset(x, y, *test, source=name)


def lines(rows: list[Row]) -> Iterator[str]:
    """docs/transfer.md."""
    rates = ", ".join(map(str, LEARNING_RATES))
    yield "# Transfer learning with the device's code"
    yield ""
    yield "Made by `make transfer`: MCUNet-5FPS (128x128, pretrained on ImageNet, int8 weights as"
    yield "released) with a new last layer learns Fashion-MNIST, its images enlarged to 128x128."
    yield "Generated C and runtime run in this process, bit-exact with the device in int8;"
    yield f"{TRAIN_PER_CLASS} training images a class, {TEST_PER_CLASS} test images a class,"
    yield f"{EPOCHS} epochs, batch 1, SGD, linear decay. Accuracy in per cent, mean and standard"
    yield f"deviation over {len(SEEDS)} seeds. The learning rate is chosen among {rates} on"
    yield f"{VALIDATION_PER_CLASS} other training images a class, once for each row."
    yield ""
    yield (
        "| scheme | int8 | float32 | int8 - float32 | lr int8 / float32 | "
        "RAM of the model, int8 (arena) | M MAC a step |"
    )
    yield "|---|---|---|---|---|---|---|"
    by_type = {(row.scheme, row.dtype): row for row in rows}
    for scheme in dict.fromkeys(row.scheme for row in rows):
        found = [by_type.get((scheme, dtype)) for dtype in DTYPES]
        cells = ["-" if r is None else f"{_mean(r):.1f} ± {_deviation(r):.1f}" for r in found]
        means = [_mean(row) for row in found if row is not None]
        gap = f"{means[0] - means[1]:+.1f}" if len(means) == 2 else "-"
        chosen = " / ".join("-" if r is None else str(r.learning_rate) for r in found)
        row = found[0] or found[1]
        assert row is not None
        ram = f"{row.ram_bytes:,} B ({row.arena_bytes:,} B)"
        million = f"{row.macs / 1e6:.1f}"
        yield f"| {scheme} | {' | '.join(cells)} | {gap} | {chosen} | {ram} | {million} |"
    yield ""
    yield "![accuracy against RAM](transfer.svg)"
    yield ""


def _mean(row: Row) -> float:
    return float(row.after.mean() * 100)


def _deviation(row: Row) -> float:
    return float(row.after[0].std(ddof=1) * 100)


def plot(rows: list[Row], path: Path) -> None:
    """Accuracy against RAM of the int8 rows."""
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "ondevice"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for row in rows:
        if row.dtype != "int8":
            continue
        axes.errorbar(row.ram_bytes / 1024, _mean(row), yerr=_deviation(row), fmt="o", capsize=3)
        axes.annotate(
            row.scheme,
            (row.ram_bytes / 1024, _mean(row)),
            xytext=(5, 5),
            textcoords="offset points",
        )
    axes.set_xscale("log")
    axes.set_xlabel("RAM of the model, KB (arena, trained parameters, input and output)")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Runs everything and writes docs/transfer.md and docs/transfer.svg."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--images", type=Path, default=IMAGES)
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "transfer.md")
    arguments = parser.parse_args()
    validation, test = data_sets(arguments.images)
    x, y = calibration_subset(test.x, test.y)
    study = Study(
        log=RunLog(BUILD / "transfer.jsonl"),
        validation=validation,
        data_sets=[test],
        rates=LEARNING_RATES,
        rate_seeds=SEEDS[:1],
        seeds=SEEDS,
        epochs=EPOCHS,
    )
    rows = []
    with Progress() as progress:
        total = len(arguments.schemes) * len(arguments.dtypes) * study.runs_a_row()
        task = progress.add_task("transfer", total=total)
        for dtype in arguments.dtypes:
            for scheme in arguments.schemes:
                settings = ModelSettings(scheme=scheme, dtype=dtype, head=CLASSES)
                request = CompileRequest(arguments.model, settings, "mcunet", x, y)
                model = compile_to_cache(request, BUILD / "models")
                name = scheme.partition(":")[0]
                rows.append(study.measure(model, name, lambda: progress.advance(task)))
                progress.console.print(f"{name} {dtype}: {_mean(rows[-1]):.1f} %")
    arguments.output.write_text("\n".join(lines(rows)), encoding="utf-8")
    plot(rows, arguments.output.with_suffix(".svg"))
    print("\n".join(lines(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
