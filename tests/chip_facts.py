"""What others say of the chips: ST's own SVD files (PyPI's cmsis-svd) and the device files of modm
(PyPI's modm-devices, made from ST's CubeMX data and headers). `make test` fetches both into
build/chips; nothing of them is in this repository."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHIPS = ROOT / "build" / "chips"
# More SVD files than PyPI has may lie here: those of F7, G0, H7.
MORE = Path(os.environ.get("ONDEVICE_SVD", ROOT.parent / "shared" / "data" / "svd"))


@dataclass(frozen=True)
class Register:
    """Of an SVD file.

    Attributes:
        address: Absolute.
        fields: Mask of each field by its name.
    """

    address: int
    fields: dict[str, int]


@dataclass(frozen=True)
class Chip:
    """What an SVD file says.

    Attributes:
        registers: By peripheral and register: "RCC_CR".
        bases: First address of each peripheral.
        interrupts: Number of each, by its name.
    """

    registers: dict[str, Register]
    bases: dict[str, int]
    interrupts: dict[str, int]


def svd_path(name: str) -> Path:
    """An SVD file; the test is skipped where it is missing, but never in CI if it is PyPI's."""
    for folder in (CHIPS, MORE):
        if (folder / f"{name}.svd").is_file():
            return folder / f"{name}.svd"
    return pytest.skip(f"no {name}.svd in {CHIPS} or {MORE} (`make test` fetches what PyPI has)")


@cache
def read_svd(path: Path) -> Chip:
    """Reads an SVD file; derived peripherals take the registers of what they derive from."""
    peripherals = {p.findtext("name", ""): p for p in ElementTree.parse(path).iter("peripheral")}
    registers: dict[str, Register] = {}
    bases: dict[str, int] = {}
    interrupts: dict[str, int] = {}
    for name, peripheral in peripherals.items():
        base = int(peripheral.findtext("baseAddress", ""), 0)
        bases[name.upper()] = base
        for interrupt in peripheral.iter("interrupt"):
            number = int(interrupt.findtext("value", ""), 0)
            interrupts[interrupt.findtext("name", "").upper()] = number
        source = peripheral
        if peripheral.find("registers") is None:
            source = peripherals[peripheral.get("derivedFrom", "")]
        for register in source.iter("register"):
            address = base + int(register.findtext("addressOffset", ""), 0)
            key = f"{name}_{register.findtext('name', '')}".upper()
            fields = {f.findtext("name", "").upper(): _mask(f) for f in register.iter("field")}
            registers[key] = Register(address, fields)
    return Chip(registers, bases, interrupts)


def _mask(field: ElementTree.Element) -> int:
    width = int(field.findtext("bitWidth", ""), 0)
    return ((1 << width) - 1) << int(field.findtext("bitOffset", ""), 0)


@dataclass(frozen=True)
class Header:
    """A chip.h.

    Attributes:
        registers: Address of each `#define NAME REGISTER(0x...u)`.
        masks: Value of each `#define NAME (1u << 2)`.
        numbers: Value of each `#define NAME 0x1234u`.
    """

    registers: dict[str, int]
    masks: dict[str, int]
    numbers: dict[str, int]


def read_header(driver: str) -> Header:
    """Reads firmware/src/DRIVER/chip.h."""
    text = (ROOT / "firmware" / "src" / driver / "chip.h").read_text(encoding="utf-8")
    registers = re.findall(r"#define (\w+) REGISTER\((0x\w+)u\)", text)
    masks = re.findall(r"#define (\w+) \((\d+)u << (\d+)\)", text)
    numbers = re.findall(r"#define (\w+) (0x[0-9A-F]+|\d+)u\n", text)
    return Header(
        {name: int(address, 16) for name, address in registers},
        {name: int(value) << int(shift) for name, value, shift in masks},
        {name: int(value, 0) for name, value in numbers},
    )


@dataclass(frozen=True)
class Device:
    """A modm device file, read for one chip of the family it describes.

    Attributes:
        traits: What names the chip: "name", "pin", "size".
        root: Of the file.
    """

    traits: dict[str, str]
    root: ElementTree.Element

    def _find(self, path: str) -> list[dict[str, str]]:
        def applies(element: ElementTree.Element) -> bool:
            wanted = {k[7:]: v for k, v in element.attrib.items() if k.startswith("device-")}
            return all(self.traits.get(key, "") in v.split("|") for key, v in wanted.items())

        return [dict(e.attrib) for e in self.root.iterfind(path) if applies(e)]

    def memories(self) -> dict[str, tuple[int, int]]:
        """First address and bytes of each memory."""
        found = self._find(".//driver[@name='core']/memory")
        return {m["name"]: (int(m["start"], 0), int(m["size"])) for m in found}

    def interrupts(self) -> dict[str, int]:
        """Number of each interrupt."""
        return {v["name"]: int(v["position"]) for v in self._find(".//vector")}

    def alternates(self, port: str, pin: int) -> dict[str, int]:
        """Alternate function of each of a pin's signals: "usart2 tx" -> 7."""
        path = f".//gpio[@port='{port}'][@pin='{pin}']/signal"
        return {
            f"{s['driver']}{s.get('instance', '')} {s.get('name', '')}": int(s["af"])
            for s in self._find(path)
            if "af" in s
        }

    def core(self) -> tuple[str, str]:
        """CPU and FPU."""
        core = self.root.find(".//driver[@name='core']")
        assert core is not None
        return core.get("type", ""), core.get("fpu", "")

    def wait_states(self, hclk_hz: int) -> int:
        """Fewest that the flash wants at the highest voltage."""
        best = max(self.root.iterfind(".//latency"), key=lambda e: int(e.get("vcore-min", "")))
        states = {int(s.get("ws", "")): int(s.get("hclk-max", "")) for s in best}
        return min(ws for ws, most in states.items() if most >= hclk_hz)


def read_device(file: str, **traits: str) -> Device:
    """Reads a device file of modm."""
    path = CHIPS / file
    if not path.is_file():
        pytest.skip(f"no {path} (`make test` fetches it)")
    return Device(traits, ElementTree.parse(path).getroot())
