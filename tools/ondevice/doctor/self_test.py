"""The whole way once: compile the demo, build its firmware, run one training step on the board."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ondevice.boards import Board
from ondevice.doctor.check import ANY_BOARD, Check

FAMILY = "Self-test"


def run_self_test(board: Board, build_dir: Path | None = None) -> Check:
    """Trains one step with the command line itself, in a folder that is gone afterwards.

    Args:
        board: A simulated one.
        build_dir: Where compiled models are kept; None: they are gone, too.
    """
    name = f"one step on {board.name}"
    with tempfile.TemporaryDirectory(prefix="ondevice-doctor-") as folder:
        arguments = ("train", "--board", board.name, "--steps", "1", "--json", "--output", folder)
        done = subprocess.run(
            [sys.executable, "-m", "ondevice", *arguments, "--build-dir", str(build_dir or folder)],
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        text = lines[-1] if lines else f"exit code {done.returncode}"
        return Check(FAMILY, name, False, text, ANY_BOARD)
    summary = json.loads(done.stdout.splitlines()[-1])
    before, after = summary["loss_before"], summary["loss_after"]
    return Check(FAMILY, name, True, f"loss {before:.3f} before, {after:.3f} after", ANY_BOARD)
