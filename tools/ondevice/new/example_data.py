"""Made-up labelled data of a new project, in the form that `ondevice record` writes."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RATE_HZ = 50
SOUND_RATE_HZ = 8000
SECONDS = 20
TAKES = 3
NOISE = 0.15


def motion_data(folder: Path) -> None:
    """Writes an accelerometer in g that is swung, shaken and left alone: data/LABEL/*.csv."""
    generator = np.random.default_rng(1)
    t = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    for take in range(1, TAKES + 1):
        turns = 2 * np.pi * generator.uniform(0.8, 1.2) * t
        moves = {
            "circle": (np.sin(turns), np.cos(turns), 0 * t + 1),
            "shake": (1.5 * np.sin(4 * turns), 0 * t, 0 * t + 1),
            "still": (0 * t, 0 * t, 0 * t + 1),
        }
        for label, move in moves.items():
            values = np.stack(move, axis=1) + generator.normal(0, NOISE, (len(t), 3))
            path = folder / "data" / label / f"example-{take}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_csv(path, "ax,ay,az", values)
    facts = f'rate_hz = {RATE_HZ}\nchannels = ["ax", "ay", "az"]\nsource = "made up"\n'
    (folder / "data" / "dataset.toml").write_text(facts, encoding="utf-8")


def tabular_data(folder: Path) -> None:
    """Writes leaves of three trees, a row each: data/leaves.csv."""
    generator = np.random.default_rng(2)
    trees = {"birch": (5, 4, 15, 2), "oak": (11, 6, 12, 8), "willow": (10, 1.5, 6, 1)}
    rows = ["length_cm,width_cm,stalk_mm,lobes,label"]
    for _ in range(60):
        for name, centre in trees.items():
            leaf = np.array(centre) * generator.normal(1, 0.25, 4)
            rows.append(",".join(f"{value:.2f}" for value in leaf) + f",{name}")
    (folder / "data").mkdir()
    (folder / "data" / "leaves.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def image_data(folder: Path) -> None:
    """Writes grey pictures of three shapes: data/LABEL/*.png."""
    generator = np.random.default_rng(3)
    rows, columns = np.mgrid[:24, :24].astype(np.float64)
    for number in range(1, 31):
        y, x = generator.uniform(8, 16, 2)
        shapes = {
            "cross": (abs(rows - y) < 2) | (abs(columns - x) < 2),
            "disc": (rows - y) ** 2 + (columns - x) ** 2 < 36,
            "stripes": (rows + y) % 6 < 3,
        }
        for label, shape in shapes.items():
            grey = np.where(shape, 200, 60) + generator.normal(0, 20, shape.shape)
            path = folder / "data" / label / f"example-{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(path)


def sound_data(folder: Path) -> None:
    """Writes a second of rising, falling and steady tones each: data/LABEL/*.wav."""
    generator = np.random.default_rng(4)
    t = np.arange(SOUND_RATE_HZ) / SOUND_RATE_HZ
    for number in range(1, 16):
        low, high = generator.uniform(300, 500), generator.uniform(2000, 3000)
        sweeps = {"falling": (high, low), "rising": (low, high), "steady": (high / 2, high / 2)}
        for label, (first, last) in sweeps.items():
            tone = 0.3 * np.sin(2 * np.pi * (first * t + (last - first) * t**2 / 2))
            noisy = tone + generator.normal(0, 0.03, len(t))
            path = folder / "data" / label / f"example-{number:02}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, SOUND_RATE_HZ, 0, "NONE", ""))
                file.writeframes((noisy * 32767).astype("<i2").tobytes())


def _write_csv(path: Path, header: str, values: NDArray[np.float64]) -> None:
    np.savetxt(path, values, fmt="%.4f", delimiter=",", header=header, comments="")


EXAMPLE_DATA: dict[str, Callable[[Path], None]] = {
    "motion": motion_data,
    "tabular": tabular_data,
    "image": image_data,
    "sound": sound_data,
}
