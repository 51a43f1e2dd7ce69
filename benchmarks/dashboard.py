"""What the dashboard costs: wall time of training on the host board, with it and as lines.

    python benchmarks/dashboard.py [ROUNDS]

Both run in turns in a pseudo terminal of 120x40; the host board is the fastest there is, so the
share is the largest there is.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

import pexpect

SIZE = (40, 120)
EPOCHS = 100


def training_s(output: Path, *options: str) -> tuple[float, int]:
    """Trains the demo; returns seconds in the loop, and bytes sent to the terminal."""
    words = ["-m", "ondevice", "train", "--board", "host", "--epochs", str(EPOCHS)]
    child = pexpect.spawn(
        sys.executable, [*words, "--output", str(output), *options], dimensions=SIZE, timeout=600,
        env={**os.environ, "TERM": "xterm-256color", "CI": ""},
    )  # fmt: skip
    child.expect(pexpect.EOF)
    (summary,) = output.glob("*/summary.json")
    return json.loads(summary.read_text())["training_s"], len(child.before)


def main() -> None:
    """Prints each round, then the medians."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    found: dict[str, list[float]] = {"--plain": [], "": []}
    for number in range(rounds):
        for option, times in found.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds, sent = training_s(Path(folder), *option.split())
            times.append(seconds)
            print(f"{number + 1} {option or 'dashboard':<10} {seconds:.2f} s, {sent:,} B sent")
    plain, live = median(found["--plain"]), median(found[""])
    print(
        f"median: plain {plain:.2f} s, dashboard {live:.2f} s ({100 * (live / plain - 1):+.1f} %)"
    )
    print(f"least: plain {min(found['--plain']):.2f} s, dashboard {min(found['']):.2f} s")


if __name__ == "__main__":
    main()
