"""Nine speakers' vowels as the 49 x 10 maps that a keyword spotter (DS-CNN) reads.

    pip download --no-deps aeon==1.6.0 && unzip -q aeon-*.whl 'aeon/datasets/data/JapaneseVowels/*'
    python benchmarks/vowels.py aeon/datasets/data/JapaneseVowels vowels.npz

Kudo, Toyama and Shimbo, Pattern Recognition Letters 20 (1999): 12 cepstral coefficients of 7 to 29
frames, 270 utterances to train on and 370 to test. The first ten coefficients are interpolated to
49 frames, standardised over the training utterances, and scaled to what the network's input holds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FRAMES, COEFFICIENTS = 49, 10
DEVIATION = 8.0  # About that of the network's own features.


def read(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Utterances [n, 49, 10] and speakers [n] of a .ts file."""
    x, y = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line[0] in "#@":
            continue
        *series, speaker = line.split(":")
        values = np.asarray([[float(v) for v in one.split(",")] for one in series[:COEFFICIENTS]])
        places = np.linspace(0, values.shape[1] - 1, FRAMES)
        frames = np.arange(values.shape[1])
        x.append(np.stack([np.interp(places, frames, one) for one in values], axis=1))
        y.append(int(float(speaker)) - 1)
    return np.asarray(x), np.asarray(y)


def main() -> int:
    """Writes the data file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    x, y = read(arguments.folder / "JapaneseVowels_TRAIN.ts")
    x_test, y_test = read(arguments.folder / "JapaneseVowels_TEST.ts")
    mean, deviation = x.mean((0, 1)), x.std((0, 1))

    def scaled(values: NDArray[np.float64]) -> NDArray[np.float32]:
        standard = (values - mean) / deviation
        return np.asarray(standard * DEVIATION, np.float32)[..., None]

    np.savez(arguments.output, x=scaled(x), y=y, x_test=scaled(x_test), y_test=y_test)
    return 0


if __name__ == "__main__":
    sys.exit(main())
