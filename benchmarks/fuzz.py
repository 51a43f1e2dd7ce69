"""Fuzzes the device's C by libFuzzer and the host's parsers by atheris.

    make fuzz                     # over ten million inputs; half an hour on two cores
    make fuzz ARGS=--short        # what CI runs: a fixed number of inputs and seed

C is compiled by clang with the address and undefined-behaviour sanitizers (tests/fuzz/NAME.c says
what else is watched); corpora start from tests/protocol_vectors.json and stay in build/fuzz. An
input that fails is written to build/fuzz/failed-NAME-*; the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ondevice.link.framing import Frame, encode_frame

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "fuzz"
RUNTIME = ROOT / "runtime" / "src"
VECTORS = ROOT / "tests" / "protocol_vectors.json"
SEED = 1
# Small buffers: more inputs a second, and their ends are met more often.
FLAGS = [
    *("-std=c99", "-D_POSIX_C_SOURCE=200809L", "-g", "-O2", "-fno-sanitize-recover=all"),
    *("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-Wno-gnu-designator"),
    *("-DOD_LINK_PAYLOAD_BYTES=256", "-DINPUT_BYTES=24", "-DTABLE_BYTES=60"),
    *("-DNOR_BANK_BYTES_MAX=1024u", f"-I{ROOT / 'runtime/include'}"),
]
# Loops of arithmetic, in which there is nothing to find a way through.
PLAIN = (RUNTIME / "crc32.c", RUNTIME / "blake2s.c", ROOT / "tests/c/fake_model.c")


@dataclass(frozen=True)
class Target:
    """One fuzz target.

    Attributes:
        name: Of its file in tests/fuzz.
        runs: Inputs of a long run.
        short_runs: Inputs in CI.
        input_bytes: Of the longest input.
    """

    name: str
    runs: int
    short_runs: int
    input_bytes: int


TARGETS = (
    Target("session", 4_500_000, 60_000, 160),
    Target("checkpoint", 800_000, 30_000, 160),
    Target("frame", 5_000_000, 60_000, 400),
    Target("host", 200_000, 15_000, 600),
)


@dataclass(frozen=True)
class Result:
    """How a target did.

    Attributes:
        runs: Inputs tried.
        edges: Edges of the program that were reached.
        corpus: Inputs that are kept, as each reaches something new.
        passed: Nothing was found.
        output: The end of what it said.
    """

    runs: int
    edges: int
    corpus: int
    passed: bool
    output: str


def build(name: str) -> Path:
    """Compiles a C target; returns the program."""
    objects = []
    for source in PLAIN:
        made = BUILD / f"{source.stem}.o"
        sanitized = [*FLAGS, "-fsanitize=address,undefined", "-c", source, "-o", made]
        subprocess.run(["clang", *map(str, sanitized)], check=True)
        objects.append(made)
    program = BUILD / name
    # Comparisons are not traced: most are of CRCs and tags, which scripts get right anyway.
    flags = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-coverage=trace-cmp"]
    sources = sorted(path for path in RUNTIME.glob("*.c") if path not in PLAIN)
    command = ["clang", *FLAGS, *flags, ROOT / f"tests/fuzz/{name}.c", *objects, *sources]
    subprocess.run([*map(str, command), "-o", str(program)], check=True)
    return program


def seeds(name: str) -> list[bytes]:
    """Inputs to begin with: what the vectors send."""
    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))
    if name in ("frame", "host"):
        return [bytes.fromhex(vector["wire"]) for vector in vectors["frames"]]
    if name != "session":
        return []
    scripts = []
    for exchange in vectors["exchanges"]:
        script = bytearray([3])  # flash, and export allowed
        for step in exchange["steps"]:
            if "host" in step:
                keys = ("type", "session", "sequence", "payload", "version")
                kind, session, sequence, payload, version = (step["host"][key] for key in keys)
                wire = encode_frame(Frame(kind, session, sequence, bytes.fromhex(payload), version))
                script += bytes([0, len(wire)]) + wire if len(wire) < 256 else b""
        scripts.append(bytes(script))
    return scripts


def run(target: Target, runs: int, corpus: Path) -> Result:
    """Tries `runs` inputs, those of the corpus among them."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target.name)):
        (corpus / f"vector-{number}").write_bytes(seed)
    program = (
        [sys.executable, str(ROOT / "tests/fuzz/host.py")]
        if target.name == "host"
        else [str(build(target.name))]
    )
    options = [f"-runs={runs}", f"-seed={SEED}", f"-max_len={target.input_bytes}", "-timeout=60"]
    options += [f"-artifact_prefix={BUILD}/failed-{target.name}-", str(corpus)]
    done = subprocess.run(
        [*program, *options], capture_output=True, text=True, errors="replace", check=False
    )
    text = done.stdout + done.stderr
    tried = re.findall(r"^Done (\d+) ", text, re.MULTILINE)
    reached = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)/", text)
    edges, kept = map(int, reached[-1]) if reached else (0, 0)
    passed = done.returncode == 0 and bool(tried)
    return Result(int(tried[0]) if tried else 0, edges, kept, passed, text[-3000:])


def main() -> int:
    """Runs the targets, two at a time, and prints a row of docs/reliability.md for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--short", action="store_true", help="few inputs, from an empty corpus")
    parser.add_argument("targets", nargs="*", help="only these")
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    chosen = [t for t in TARGETS if not arguments.targets or t.name in arguments.targets]

    def one(target: Target) -> Result:
        if not arguments.short:
            return run(target, target.runs, BUILD / "corpus" / target.name)
        corpus = BUILD / f"short-{os.getpid()}" / target.name
        return run(target, target.short_runs, corpus)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, chosen))
    print("| target | inputs | edges reached | corpus |\n|---|---|---|---|")
    for target, result in zip(chosen, results, strict=True):
        print(f"| {target.name} | {result.runs:,} | {result.edges} | {result.corpus} |")
        if not result.passed:
            print(result.output)
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
