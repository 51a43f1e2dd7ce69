"""Compilers and simulators: there or not, and whether they can do what is asked of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from ondevice.boards import Board
from ondevice.doctor.check import CORTEX_M, NOBODY, Check
from ondevice.renode import GET_RENODE

FAMILY = "Programs"
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")


def check_programs(board: Board) -> list[Check]:
    """All compilers and simulators; the simulator's machine is that of the board."""
    return [
        _program(
            "gcc", frozenset({"host"}), "sudo apt-get install gcc libc6-dev", _includes("gcc")
        ),
        _program(
            "arm-none-eabi-gcc",
            CORTEX_M,
            "sudo apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
            _includes("arm-none-eabi-gcc") or _nano_specs(),
        ),
        _program(
            "qemu-system-arm",
            frozenset({"qemu"}),
            "sudo apt-get install qemu-system-arm",
            _machine(board.qemu_machine or "netduinoplus2"),
        ),
        _program("renode", frozenset({"renode"}), GET_RENODE),
        _program("renode-test", NOBODY, "comes with Renode; only `make test-renode` needs it"),
    ]


def version_of(program: str) -> str:
    """What `program --version` says; empty where it says nothing that looks like one."""
    # Distributions write their own version in parentheses.
    found = _VERSION.search(re.sub(r"\(.*?\)", "", _output([program, "--version"])))
    return found[0] if found else ""


def _program(name: str, needed_by: frozenset[str], get: str, wrong: str = "") -> Check:
    path = shutil.which(name)
    how = get if " " not in get or not get.startswith("sudo") else f"`{get}`"
    if path is None:
        return Check(FAMILY, name, False, f"not installed: {how}", needed_by)
    if wrong:
        return Check(FAMILY, name, False, f"{wrong}: {how}", needed_by)
    return Check(FAMILY, name, True, f"{version_of(name)} ({path})".strip(), needed_by)


def _includes(compiler: str) -> str:
    """What is wrong with a compiler's headers; empty: nothing, or it is not there."""
    if shutil.which(compiler) is None:
        return ""
    done = subprocess.run(
        [compiler, "-E", "-x", "c", "-"],
        input="#include <stdio.h>\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "" if done.returncode == 0 else "has no C library"


def _nano_specs() -> str:
    if shutil.which("arm-none-eabi-gcc") is None:
        return ""
    # gcc prints the bare name of what it does not find.
    place = _output(["arm-none-eabi-gcc", "--print-file-name=nano.specs"]).strip()
    return "" if "/" in place else "has no newlib-nano (nano.specs)"


def _machine(machine: str) -> str:
    if shutil.which("qemu-system-arm") is None:
        return ""
    machines = [line.split()[:1] for line in _output(["qemu-system-arm", "-M", "help"]).split("\n")]
    return "" if [machine] in machines else f"has no machine {machine}"


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, check=False, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
