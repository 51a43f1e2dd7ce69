"""Counting each executed instruction of each operator with a plugin of QEMU."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from ondevice.build import require_tool
from ondevice.errors import UserError
from ondevice.estimate.cost import Count

PLUGIN_SOURCE = Path(__file__).with_name("instruction_trace.c")
COUNTER, PROFILE = "board_counter", "profile"  # of firmware/src
_EXECUTABLE = 4  # SHF_EXECINSTR


class TraceError(UserError):
    """QEMU's plugin cannot be built, does not run, or counts something else than the firmware."""


@dataclass(frozen=True)
class Tracer:
    """What makes QEMU count while it runs a firmware.

    Attributes:
        options: To be added to QEMU's command.
        counts_file: Written by QEMU when it ends.
        ops: Operators of the model.
    """

    options: tuple[str, ...]
    counts_file: Path
    ops: int

    def read(self) -> list[dict[int, Count]]:
        """For each operator, {address: count}; after QEMU has ended.

        Raises:
            TraceError: QEMU has not written it.
        """
        try:
            lines = self.counts_file.read_text(encoding="ascii").splitlines()
        except OSError as error:
            raise TraceError(
                f"{self.counts_file}: {error.strerror}: this QEMU does not run plugins; use "
                "Debian's qemu-system-arm, or leave out --estimate"
            ) from error
        counts: list[dict[int, Count]] = [{} for _ in range(self.ops)]
        for line in lines:
            op, address, executed, taken = line.split()
            counts[int(op)][int(address, 16)] = (int(executed), int(taken))
        return counts


def tracer(elf: Path, ops: int, plugin: Path, counts_file: Path) -> Tracer:
    """Sets the plugin up for a firmware.

    Args:
        elf: Built for a simulated board.
        ops: Operators of its model.
        plugin: From `build_plugin`.
        counts_file: Where the counts go; an old one is removed.

    Raises:
        TraceError: The firmware lacks what the plugin looks for.
    """
    counts_file.unlink(missing_ok=True)
    with elf.open("rb") as file:
        image = ELFFile(file)
        symbols = image.get_section_by_name(".symtab")
        addresses = {}
        for name in (COUNTER, PROFILE):
            found = symbols.get_symbol_by_name(name) if symbols is not None else None
            if not found:
                raise TraceError(f"{elf}: no symbol {name!r}; build the firmware again")
            addresses[name] = int(found[0]["st_value"])
        text = [s for s in image.iter_sections() if s["sh_flags"] & _EXECUTABLE and s["sh_size"]]
        first = min(int(s["sh_addr"]) for s in text)
        end = max(int(s["sh_addr"] + s["sh_size"]) for s in text)
    arguments = [
        str(plugin),
        f"text={first:x}:{end:x}",
        f"cut={addresses[COUNTER] & ~1:x}",  # bit 0 of a function's address means Thumb
        f"profile={addresses[PROFILE]:x}",
        f"ops={ops:x}",
        f"out={counts_file}",
    ]
    if any("," in argument for argument in arguments):
        raise TraceError(f"{counts_file.parent}: QEMU takes no path with a comma; use --build-dir")
    return Tracer(("-plugin", ",".join(arguments)), counts_file, ops)


def build_plugin(folder: Path) -> Path:
    """Compiles the plugin with the host's compiler, unless this version of it is there.

    Raises:
        TraceError: It does not compile.
    """
    require_tool("gcc")
    digest = hashlib.sha256(PLUGIN_SOURCE.read_bytes()).hexdigest()[:16]
    plugin = folder.resolve() / f"instruction_trace-{digest}.so"
    if plugin.is_file():
        return plugin
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / plugin.name
        command = ["gcc", "-std=c99", "-D_POSIX_C_SOURCE=200809L", "-O2", "-shared", "-fPIC"]
        command += ["-fvisibility=hidden", str(PLUGIN_SOURCE), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise TraceError(f"QEMU's plugin does not compile: {done.stderr.strip()[:300]}")
        os.replace(made, plugin)  # another process may be building it, too
    return plugin


def check_counts(
    counts: Sequence[dict[int, Count]], op_totals: Sequence[int], names: Sequence[str]
) -> None:
    """Compares with the firmware's own counter, which sees the same instructions.

    Args:
        counts: From `Tracer.read`.
        op_totals: Of a counter that counts every instruction.
        names: Of the operators.

    Raises:
        TraceError: They differ.
    """
    for op, expected, name in zip(counts, op_totals, names, strict=True):
        found = sum(executed for executed, _ in op.values())
        if found != expected:
            raise TraceError(
                f"{name}: the plugin saw {found:,} instructions and the board {expected:,}; this "
                "QEMU does not count exactly, leave out --estimate"
            )
