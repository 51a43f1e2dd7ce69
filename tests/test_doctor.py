"""`ondevice doctor`: what it finds, what it misses, and what it says of both.

Programs are stand-ins on PATH, boards are those of fake_usb; only the last tests look at this
computer.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_usb import FakeUsb, usb
from ondevice import cli
from ondevice.boards import load_board
from ondevice.doctor import real_board
from ondevice.doctor.check import Check
from ondevice.doctor.packages import check_python
from ondevice.doctor.programs import check_programs
from ondevice.doctor.real_board import check_access, check_boards, check_flashing
from ondevice.doctor.self_test import run_self_test
from ondevice.ports import list_ports

__all__ = ["usb"]
NUCLEO, F405, HOST = (load_board(name) for name in ("nucleo_f446re", "qemu_f405", "host"))
Program = Callable[..., Path]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """Puts a stand-in on PATH, where nothing else is; it answers by its first argument."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PLATFORMIO_CORE_DIR", str(tmp_path / "platformio"))

    def make(name: str, otherwise: int = 0, **answers: str) -> Path:
        cases = "".join(
            f"*{key.replace('_', '-')}*) /bin/cat <<'END'\n{text}\nEND\n;;\n"
            for key, text in answers.items()
        )
        path = folder / name
        path.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}*) exit {otherwise};;\nesac\n')
        path.chmod(0o755)
        return path

    return make


def named(checks: list[Check], name: str) -> Check:
    (check,) = [check for check in checks if check.name == name]
    return check


def test_nothing_installed_is_told_package_by_package(program: Program) -> None:
    checks = check_programs(F405)
    assert not any(check.ok for check in checks)
    words = {
        "gcc": "apt-get install gcc libc6-dev",
        "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
        "qemu-system-arm": "apt-get install qemu-system-arm",
        "renode": "renode.io",
    }
    for name, word in words.items():
        assert word in named(checks, name).text


@pytest.mark.parametrize(
    ("board", "needs"),
    [
        ("host", {"gcc"}),
        ("qemu_f405", {"arm-none-eabi-gcc", "qemu-system-arm"}),
        ("renode_f446re", {"arm-none-eabi-gcc", "renode"}),
        ("nucleo_f446re", {"arm-none-eabi-gcc"}),
    ],
)
def test_only_what_the_board_needs_is_missing(
    program: Program, board: str, needs: set[str]
) -> None:
    target = load_board(board)
    checks = check_programs(target)
    assert {check.name for check in checks if check.state(target.run) == "missing"} == needs


def test_versions_are_those_that_the_programs_say(program: Program) -> None:
    gcc = program("arm-none-eabi-gcc", version="gcc (15:12.2.rel1-1) 12.2.1", print_file="/x/nano")
    program("qemu-system-arm", version="QEMU emulator version 7.2.22", help="netduinoplus2  x\n")
    checks = check_programs(F405)
    assert named(checks, "arm-none-eabi-gcc") == Check(
        "Programs", "arm-none-eabi-gcc", True, f"12.2.1 ({gcc})",
        frozenset({"qemu", "renode", "serial"}),
    )  # fmt: skip
    assert named(checks, "qemu-system-arm").text.startswith("7.2.22 ")


def test_a_compiler_without_a_c_library_is_not_enough(program: Program) -> None:
    program("arm-none-eabi-gcc", otherwise=1, version="12.2.1")
    found = named(check_programs(F405), "arm-none-eabi-gcc")
    assert not found.ok
    assert "has no C library" in found.text
    assert "libnewlib-arm-none-eabi" in found.text


def test_a_compiler_without_newlib_nano_is_not_enough(program: Program) -> None:
    program("arm-none-eabi-gcc", version="12.2.1", print_file="nano.specs")
    assert "nano.specs" in named(check_programs(F405), "arm-none-eabi-gcc").text


def test_a_simulator_without_the_boards_machine_is_not_enough(program: Program) -> None:
    program("qemu-system-arm", version="2.1.0", help="Supported machines are:\nmps2-an386  x")
    assert "has no machine netduinoplus2" in named(check_programs(F405), "qemu-system-arm").text
    assert named(check_programs(load_board("qemu_mps2_an386")), "qemu-system-arm").ok


def test_a_package_that_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=99", "rich>=1", 'no-such-package==1; extra == "torch"']

    class Project:
        requires = wanted

    real = distribution
    monkeypatch.setattr(
        "ondevice.doctor.packages.distribution",
        lambda name: Project if name == "ondevice-training" else real(name),
    )
    checks = check_python()
    base, torch = named(checks, "packages: the tool itself"), checks[4]
    assert base.state("qemu") == "missing"
    assert "numpy" in base.text
    assert "rich" not in base.text
    assert torch.name == "packages: models of PyTorch"
    assert torch.state("qemu") == "optional"
    assert "no-such-package is missing" in torch.text
    assert "pip install -e '.[torch]'" in torch.text


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    python = check_python()[0]
    assert python.state("host") == "missing"
    assert python.text == "3.9.1; 3.11 or newer is needed"


def test_one_way_to_flash_is_enough(usb: FakeUsb, program: Program) -> None:
    checks = check_flashing(NUCLEO, list_ports())
    assert named(checks, "any of them").state("serial") == "missing"
    assert named(checks, "any of them").state("qemu") == "optional"
    program("st-flash", version="v1.7.0")
    checks = check_flashing(NUCLEO, list_ports())
    assert named(checks, "any of them").text == "st-flash"
    assert "1.7.0" in named(checks, "st-flash").text
    assert named(checks, "openocd").state("serial") == "optional"


def test_the_disk_of_the_board_is_a_way_to_flash_once_it_is_mounted(
    usb: FakeUsb, program: Program
) -> None:
    usb.plug_in("/dev/ttyACM0", "066A", "NODE_F446RE")
    assert "not mounted: `udisksctl" in named(check_flashing(NUCLEO, list_ports()), "disk").text
    usb.plug_in("/dev/ttyACM1", "066B", "NODE_F446RE", mounted=True)
    checks = check_flashing(NUCLEO, list_ports())
    assert named(checks, "any of them").text == "disk"


def test_a_port_that_may_not_be_opened_is_named_with_its_group(
    usb: FakeUsb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = tmp_path / "ttyACM0"
    device.touch()
    usb.plug_in(str(device), "066A", "NODE_F446RE")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(real_board, "_group_of", lambda path: "dialout")
    found = named(check_access(list_ports(), tmp_path), "serial ports")
    assert found.state("serial") == "missing"
    assert found.state("qemu") == "optional"
    assert f"no permission to open {device}: `sudo usermod -aG dialout $USER`" in found.text


@pytest.mark.parametrize(("mine", "ok"), [([100], False), ([100, 20], True)])
def test_without_a_port_the_group_tells(
    usb: FakeUsb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mine: list[int], ok: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 100)
    monkeypatch.setattr(os, "getgroups", lambda: mine)
    groups = [SimpleNamespace(gr_name="dialout", gr_gid=20)]
    monkeypatch.setattr("grp.getgrall", lambda: groups)
    found = named(check_access(list_ports(), tmp_path), "serial ports")
    assert found.ok == ok
    assert ok or "usermod -aG dialout" in found.text


def test_a_udev_rule_for_the_st_link_is_found_wherever_it_is(usb: FakeUsb, tmp_path: Path) -> None:
    name = "ST-LINK (udev rule)"
    folder = tmp_path / "lib" / "udev" / "rules.d"
    folder.mkdir(parents=True)
    (folder / "50-other.rules").write_text('ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6010"\n')
    assert "apt-get install openocd" in named(check_access([], tmp_path), name).text
    (folder / "60-openocd.rules").write_text('ATTRS{idVendor}=="0483", ATTRS{idProduct}=="374B"\n')
    found = named(check_access([], tmp_path), name)
    assert (found.ok, found.text) == (True, "/lib/udev/rules.d/60-openocd.rules")


def test_boards_are_listed_with_their_ports_and_the_chosen_one_is_found_or_missed(
    usb: FakeUsb,
) -> None:
    assert check_boards(NUCLEO, list_ports())[-1].state("serial") == "missing"
    assert check_boards(F405, list_ports())[-1].text == "none is plugged in"
    usb.plug_in("/dev/ttyACM0", "066A", "NODE_F446RE")
    port, chosen = check_boards(NUCLEO, list_ports())
    assert port.name == "/dev/ttyACM0"
    assert "nucleo_f446re" in port.text
    assert (chosen.ok, chosen.text) == (True, "/dev/ttyACM0 (serial number 066A)")


def invoke(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ondevice", "doctor", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_missing_simulator_is_exit_code_1_and_a_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    usb: FakeUsb,
    program: Program,
) -> None:
    assert invoke(monkeypatch, "--board", "qemu_f405") == 1
    text = capsys.readouterr().out
    assert "qemu_f405 misses: arm-none-eabi-gcc, qemu-system-arm" in text
    assert invoke(monkeypatch, "--board", "qemu_f405", "--json") == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["board"], record["ok"]) == ("qemu_f405", False)
    states = {row["name"]: row["state"] for row in record["checks"]}
    assert (states["qemu-system-arm"], states["gcc"], states["Python"]) == (
        "missing",
        "optional",
        "ok",
    )


def test_what_the_board_needs_being_there_is_exit_code_0(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    usb: FakeUsb,
    program: Program,
) -> None:
    program("gcc", version="gcc 12.2.0")
    assert invoke(monkeypatch, "--board", "host") == 0
    assert "host has all that it needs" in capsys.readouterr().out


def test_an_unknown_board_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(monkeypatch, "--board", "arduino") == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_self_test_that_fails_says_why() -> None:
    check = run_self_test(replace(HOST, name="nowhere"))
    assert check.state("host") == "missing"
    assert "unknown board 'nowhere'" in check.text


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="QEMU is not installed")
def test_this_computer_has_what_its_tests_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(monkeypatch, "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"]
