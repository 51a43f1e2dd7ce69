"""Accuracy of every update scheme, float32 against int8, by the device's code on the host board.

    make results

For each unseen wearer of the demo, watch rotated: adapt, then test on later recordings. Writes
docs/results.md. Learning rates are chosen once per scheme and type, on a validation part of the
first unseen wearer's adaptation data, and used for all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from adaptation import BUILD, ROOT, Row, RunLog, Study, validation_split
from rich.progress import Progress

from ondevice import demo
from ondevice.compiled_model import CompileRequest, ModelDirectory, compile_to_cache
from ondevice.config import ModelSettings
from ondevice.data import calibration_subset, make_dataset

MODEL = Path(demo.__file__).parent / "watch.onnx"
SPARSE = Path(demo.__file__).parent / "sparse.toml"
SCHEMES = ("last", "bias", f"sparse:{SPARSE}", "full")
DTYPES = ("float32", "int8")
SEEDS = (0, 1, 2)
EPOCHS = 10
LEARNING_RATES = (0.003, 0.01, 0.03, 0.1)
VALIDATION_SHARE = 0.25


def compiled(scheme: str, dtype: str) -> ModelDirectory:
    """The demo's model for one scheme and type."""
    x, y = calibration_subset(*demo.calibration_set())
    settings = ModelSettings(scheme=scheme, dtype=dtype)
    return compile_to_cache(CompileRequest(MODEL, settings, "watch", x, y), BUILD / "models")


def lines(rows: list[Row], people: list[str], samples: str) -> Iterator[str]:
    """docs/results.md."""
    yield "# Accuracy of the update schemes"
    yield ""
    rates = ", ".join(map(str, LEARNING_RATES))
    yield "Made by `make results`: the generated C and the runtime, in the benchmark's process, the"
    yield "bit-exact twin of the device (tests compare the int8 weights with QEMU's, byte by byte)."
    yield "Demo model and data: a 1-D CNN pretrained on other people, adapted to each unseen wearer"
    yield f"with the watch turned by 180 degrees. {EPOCHS} epochs, batch 1, SGD, linear decay,"
    yield f"{len(SEEDS)} seeds; accuracy in per cent, mean and standard deviation over seeds of the"
    yield f"mean over wearers. The learning rate is chosen among {rates} on the last quarter of the"
    yield "first wearer's adaptation windows, once for each row."
    yield ""
    yield f"{samples}"
    yield ""
    yield (
        "| scheme | type | lr | before | after | "
        + " | ".join(people)
        + " | RAM of the model (arena) |"
    )
    yield "|---|---|---|---|---|" + "---|" * len(people) + "---|"
    for row in rows:
        by_seed = row.after.mean(axis=0) * 100
        each = " | ".join(f"{value * 100:.1f}" for value in row.after.mean(axis=1))
        yield (
            f"| {row.scheme} | {row.dtype} | {row.learning_rate} | {row.before.mean() * 100:.1f} | "
            f"{by_seed.mean():.1f} ± {by_seed.std(ddof=1):.1f} | {each} | "
            f"{row.ram_bytes:,} B ({row.arena_bytes:,} B) |"
        )
    yield ""


def main() -> int:
    """Runs everything and writes docs/results.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "results.md")
    arguments = parser.parse_args()
    people = list(demo.UNSEEN_PEOPLE)
    wearers = [
        make_dataset(demo.wearer_split(person, True), f"wearer {person}") for person in people
    ]
    counts = ", ".join(
        f"wearer {person}: {len(data.x)} / {len(data.x_test)}"
        for person, data in zip(people, wearers, strict=True)
    )
    study = Study(
        log=RunLog(BUILD / "results.jsonl"),
        validation=validation_split(wearers[0], VALIDATION_SHARE),
        data_sets=wearers,
        rates=LEARNING_RATES,
        rate_seeds=SEEDS,
        seeds=SEEDS,
        epochs=EPOCHS,
    )
    rows = []
    with Progress(transient=True) as progress:
        total = len(SCHEMES) * len(DTYPES) * study.runs_a_row()
        task = progress.add_task("accuracy", total=total)
        for scheme in SCHEMES:
            for dtype in DTYPES:
                model = compiled(scheme, dtype)
                name = scheme.partition(":")[0]
                rate = study.learning_rate([model], lambda: progress.advance(task))
                rows.append(study.measure(model, name, rate, lambda: progress.advance(task)))
    text = "\n".join(
        lines(
            rows, [f"wearer {person}" for person in people], f"Adaptation / test windows: {counts}."
        )
    )
    arguments.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
