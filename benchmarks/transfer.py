"""Transfer learning by the device's code: a keyword spotter learns to tell speakers apart.

    make transfer

MLPerf Tiny's DS-CNN (int8 TFLite) with a new last layer, on the JapaneseVowels data that the
package aeon carries. Every scheme of the lectures, int8 against float32, run in this process;
learning rates are chosen on a validation split of the training data. Writes docs/transfer.md.
Finished runs are kept in build/transfer.jsonl, so that an interrupted study goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from adaptation import BUILD, ROOT, Row, RunLog, Study, validation_split
from rich.progress import Progress

from ondevice.compiled_model import CompileRequest, compile_to_cache
from ondevice.config import ModelSettings
from ondevice.data import Dataset, calibration_subset, load_dataset

MODEL = ROOT.parent / "shared" / "data" / "mlperf-tiny" / "kws_ref_model.tflite"
SPARSE = ROOT / "benchmarks" / "schemes" / "ds-cnn-vowels.toml"
SCHEMES = ("last", "last-4", "bias", "bn", "tinytl", f"sparse:{SPARSE}", "full")
DTYPES = ("int8", "float32")
SPEAKERS = 9
EPOCHS = 20
LEARNING_RATES = (0.003, 0.01, 0.03)
SEEDS = (0, 1, 2, 3, 4)
RATE_SEEDS = (0,)
VALIDATION_SHARE = 0.3


def lines(rows: list[Row], data: Dataset) -> Iterator[str]:
    """docs/transfer.md."""
    rates = ", ".join(map(str, LEARNING_RATES))
    yield "# Transfer learning with the device's code"
    yield ""
    yield "Made by `make transfer`: MLPerf Tiny's keyword spotter (DS-CNN, int8 TFLite, its scales"
    yield "kept) with a new last layer learns to tell nine speakers by their vowels (JapaneseVowels"
    yield "from the package aeon 1.6.0). The generated C and the runtime run in the benchmark's"
    yield f"process, bit for bit the device's in int8. {len(data.x)} training and"
    yield f"{len(data.x_test)} test utterances, {EPOCHS} epochs, batch 1, SGD, linear decay."
    yield f"Accuracy in per cent, mean and standard deviation over {len(SEEDS)} seeds of the order"
    yield f"of samples. The learning rate is chosen among {rates} for each"
    yield "scheme, on 30 % of the training data, held out: the best mean of both types. float32"
    yield "trains the dequantised network with float activations."
    yield "The sparse scheme is what `ondevice search --ram 64K` found (docs/search.md)."
    yield ""
    yield (
        "| scheme | int8 | float32 | int8 - float32 | learning rate | "
        "RAM of the model, int8 (arena) | RAM float32 | M MAC a step |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    by_type = {(row.scheme, row.dtype): row for row in rows}
    for scheme in dict.fromkeys(row.scheme for row in rows):
        int8, float32 = (by_type[scheme, dtype] for dtype in DTYPES)
        cells = [
            scheme,
            *(f"{_mean(row):.1f} ± {_deviation(row):.1f}" for row in (int8, float32)),
            f"{_mean(int8) - _mean(float32):+.1f}",
            str(int8.learning_rate),
            f"{int8.ram_bytes:,} B ({int8.arena_bytes:,} B)",
            f"{float32.ram_bytes:,} B",
            f"{int8.macs / 1e6:.1f}",
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield "![accuracy against RAM](images/transfer.svg)"
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
    """Runs everything and writes docs/transfer.md and its plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help=".npz file that benchmarks/vowels.py writes")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--schemes", nargs="+", default=SCHEMES)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "transfer.md")
    arguments = parser.parse_args()
    data = load_dataset(arguments.data)
    x, y = calibration_subset(data.x, data.y)
    study = Study(
        log=RunLog(BUILD / "transfer.jsonl"),
        validation=validation_split(data, VALIDATION_SHARE),
        data_sets=[data],
        rates=LEARNING_RATES,
        rate_seeds=RATE_SEEDS,
        seeds=SEEDS,
        epochs=EPOCHS,
    )
    rows = []
    with Progress() as progress:
        total = len(arguments.schemes) * len(DTYPES) * study.runs_a_row()
        task = progress.add_task("transfer", total=total)
        for scheme in arguments.schemes:
            name = scheme.partition(":")[0]
            models = []
            for dtype in DTYPES:
                settings = ModelSettings(scheme=scheme, dtype=dtype, head=SPEAKERS)
                request = CompileRequest(arguments.model, settings, "ds-cnn", x, y)
                models.append(compile_to_cache(request, BUILD / "models"))
            rate = study.learning_rate(models, lambda: progress.advance(task))
            for model in models:
                rows.append(study.measure(model, name, rate, lambda: progress.advance(task)))
                progress.console.print(f"{name} {rows[-1].dtype}: {_mean(rows[-1]):.1f} %, {rate}")
    arguments.output.write_text("\n".join(lines(rows, data)), encoding="utf-8")
    plot(rows, arguments.output.parent / "images" / "transfer.svg")
    print("\n".join(lines(rows, data)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
