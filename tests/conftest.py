"""Fixtures that several test files share."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from coverage_flags import coverage_flags
from firmware_model import costly_model, write_model
from ondevice.boards import load_board
from ondevice.build import Firmware, build_firmware

# Nothing is timed in tests; CI draws the same examples every time, people draw new ones.
settings.register_profile("ondevice", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("ondevice")

ROOT = Path(__file__).resolve().parent.parent
RUNTIME_SOURCES = sorted((ROOT / "runtime" / "src").glob("*.c"))
SANITIZED = [
    "-std=c99",
    "-D_POSIX_C_SOURCE=200809L",
    "-O1",
    "-g",
    "-ffp-contract=off",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Werror",
]


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds tests/c/NAME.c with the fake model and the runtime, under the sanitizers."""
    folder = tmp_path_factory.mktemp("c")
    built: dict[str, Path] = {}

    def compile_program(name: str) -> Path:
        if name not in built:
            sources = [ROOT / "tests" / "c" / f"{file}.c" for file in (name, "fake_model")]
            includes = [f"-I{ROOT / 'runtime' / 'include'}", f"-I{ROOT / 'tests' / 'c'}"]
            program = folder / name
            flags = [*SANITIZED, *coverage_flags(), *includes]
            subprocess.run(
                ["gcc", *flags, *sources, *RUNTIME_SOURCES, "-o", program, "-lm"], check=True
            )
            built[name] = program
        return built[name]

    return compile_program


@pytest.fixture
def fake_device(compile_c: Callable[[str], Path]) -> Path:
    """The session and the fake model as a process; an argument's first letter changes the port."""
    return compile_c("fake_device")


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Firmware]:
    """Builds the firmware of firmware_model.py for a board, once."""
    folder = tmp_path_factory.mktemp("firmware")
    model = write_model(folder / "model", costly_model())
    built: dict[str, Firmware] = {}

    def build_board(name: str) -> Firmware:
        if name not in built:
            built[name] = build_firmware(model, load_board(name), folder / name)
        return built[name]

    return build_board
