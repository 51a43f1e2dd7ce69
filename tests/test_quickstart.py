"""The quick start as a new user runs it: every block, as written, in one shell."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "quickstart.md"
BLOCKS = re.findall(r"^```(sh|text)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
END = "=== end of block"

needs_make = pytest.mark.skipif(
    not (ROOT / ".venv").is_dir(), reason="no environment here; `make test` makes one"
)


def script() -> str:
    """All commands of the page; a marker ends the output of each block."""
    commands = [block for kind, block in BLOCKS if kind == "sh"]
    return "set -euo pipefail\n" + "\n".join(f"{c}\necho '{END}'" for c in commands)


def transcripts() -> list[str]:
    """What the page shows after each block; empty where it shows nothing."""
    shown: list[str] = []
    for kind, block in BLOCKS:
        if kind == "sh":
            shown.append("")
        else:
            shown[-1] += block
    return shown


def lines_of(text: str) -> list[str]:
    """Lines with all numbers alike, without frames of tables and the like; those that say much."""
    plain = re.sub(r"[^\w\s.:;,/%()=-]", " ", re.sub(r"\d+", "#", text.replace(",", "")))
    lines = [" ".join(line.split()) for line in plain.splitlines()]
    return [line for line in lines if line not in ("", "...")]


@needs_make
def test_every_block_of_the_quick_start_runs_and_says_what_the_page_shows(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ONDEVICE_")}
    kept.pop("PYTHONPATH", None)
    done = subprocess.run(
        [bash, "-c", script()],
        cwd=ROOT,
        env={**kept, "HOME": str(tmp_path), "COLUMNS": "100", "MAKEFLAGS": ""},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    outputs = done.stdout.split(f"{END}\n")
    for expected, output in zip(transcripts(), outputs, strict=False):
        found = lines_of(output)
        for line in lines_of(expected):
            assert line in found, f"{line!r} is not in:\n{output}"
            found = found[found.index(line) + 1 :]


def test_the_quick_start_has_commands_and_shows_what_they_say() -> None:
    assert len(transcripts()) >= 6
    assert sum(len(lines_of(shown)) for shown in transcripts()) >= 20
