"""Flashing: which tool is taken, what it is told, and what a person is told when it fails.

The tools are stand-ins that write down how they were called; no ST-LINK is needed.
"""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fake_usb import FakeUsb, usb
from ondevice import cli, stlink_disk
from ondevice.boards import list_boards, load_board
from ondevice.errors import UserError
from ondevice.flash import TOOLS, flash_file
from ondevice.ports import PROBES
from ondevice.programmers import find_programmers

__all__ = ["usb"]
NUCLEO = load_board("nucleo_f446re")
PORT, SERIAL_NUMBER = "/dev/ttyACM0", "066EFF495057717867142038"
Tool = Callable[..., Path]


@pytest.fixture
def elf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A firmware; nothing that flashes is installed."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PLATFORMIO_CORE_DIR", str(tmp_path / "platformio"))
    monkeypatch.setattr("ondevice.disks._MEDIA", (tmp_path / "media",))
    monkeypatch.setattr(stlink_disk, "SETTLE_S", 0.0)
    path = tmp_path / "my firmware.elf"
    path.write_bytes(b"\x7fELF")
    path.with_suffix(".bin").write_bytes(b"image")
    return path


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """Puts a stand-in on PATH; gives the file where it writes its arguments."""

    def make(name: str, says: str = "", exit_code: int = 0, folder: Path | None = None) -> Path:
        place = folder or tmp_path / "bin"
        place.mkdir(parents=True, exist_ok=True)
        program = place / name
        program.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{program}.calls'\n"
            f"/bin/cat >&2 <<'END'\n{says}\nEND\nexit {exit_code}\n",
            encoding="utf-8",
        )
        program.chmod(0o755)
        return Path(f"{program}.calls")

    return make


def called(calls: Path) -> list[str]:
    return calls.read_text(encoding="utf-8").splitlines()


def test_openocd_gets_target_chip_and_the_st_link_of_the_port(
    usb: FakeUsb, elf: Path, tool: Tool
) -> None:
    usb.plug_in(PORT, SERIAL_NUMBER, "NODE_F446RE")
    usb.plug_in("/dev/ttyACM1", "other", "NODE_F446RE")
    calls = tool("openocd")
    assert flash_file(elf, NUCLEO, PORT) == "openocd"
    arguments = called(calls)
    assert "interface/stlink.cfg" in arguments
    assert "target/stm32f4x.cfg" in arguments
    assert f"program {{{elf}}} verify reset exit" in arguments
    (chosen,) = [word for word in arguments if "adapter serial" in word]
    assert f"adapter serial {SERIAL_NUMBER}" in chosen
    (check,) = [word for word in arguments if "mrw" in word]
    # RM0390: DBGMCU_IDCODE is at 0xE0042000, DEV_ID of the STM32F446 is 0x421.
    assert "mrw 0xe0042000" in check
    assert f"!= {0x421}" in check
    assert arguments.index(chosen) < arguments.index("target/stm32f4x.cfg")
    assert arguments.index(check) < arguments.index(f"program {{{elf}}} verify reset exit")


def test_st_flash_gets_the_image_its_address_and_the_st_link_of_the_port(
    usb: FakeUsb, elf: Path, tool: Tool
) -> None:
    usb.plug_in(PORT, SERIAL_NUMBER, "NODE_F446RE")
    calls = tool("st-flash")
    assert flash_file(elf, NUCLEO, PORT) == "st-flash"
    image = str(elf.with_suffix(".bin"))
    expected = ["--serial", SERIAL_NUMBER, "--reset", "write", image, "0x8000000"]
    assert called(calls) == expected


def test_without_a_port_the_only_board_of_its_kind_is_flashed_and_no_other(
    usb: FakeUsb, elf: Path, tool: Tool
) -> None:
    calls = tool("st-flash")
    usb.plug_in("/dev/ttyACM1", "other", "NODE_F411RE")
    with pytest.raises(UserError, match="no nucleo_f446re is plugged in, but /dev/ttyACM1"):
        flash_file(elf, NUCLEO)
    usb.plug_in(PORT, SERIAL_NUMBER, "NODE_F446RE")
    flash_file(elf, NUCLEO)
    assert called(calls)[:2] == ["--serial", SERIAL_NUMBER]
    usb.plug_in("/dev/ttyACM2", "third", "NODE_F446RE")
    with pytest.raises(UserError, match="2 boards may be the nucleo_f446re"):
        flash_file(elf, NUCLEO)


def test_a_port_of_another_adapter_chooses_no_st_link(usb: FakeUsb, elf: Path, tool: Tool) -> None:
    usb.plug_in(PORT, "FT123", usb_id="0403:6001")
    calls = tool("st-flash")
    flash_file(elf, NUCLEO, PORT)
    assert "FT123" not in called(calls)


def test_platformio_lends_its_openocd_with_its_scripts(
    usb: FakeUsb, elf: Path, tool: Tool, tmp_path: Path
) -> None:
    package = tmp_path / "platformio" / "packages" / "tool-openocd"
    calls = tool("openocd", folder=package / "bin")
    (package / "openocd" / "scripts").mkdir(parents=True)
    assert flash_file(elf, NUCLEO) == "platformio"
    assert called(calls)[:2] == ["-s", str(package / "openocd" / "scripts")]


def test_platformio_lends_its_st_flash(usb: FakeUsb, elf: Path, tool: Tool, tmp_path: Path) -> None:
    folder = tmp_path / "platformio" / "packages" / "tool-stm32duino" / "stlink"
    calls = tool("st-flash", folder=folder)
    assert flash_file(elf, NUCLEO) == "platformio"
    assert called(calls)[0] == "--reset"


def test_the_tool_that_was_asked_for_is_taken(usb: FakeUsb, elf: Path, tool: Tool) -> None:
    openocd, st_flash = tool("openocd"), tool("st-flash")
    assert flash_file(elf, NUCLEO, tool="st-flash") == "st-flash"
    assert st_flash.is_file()
    assert not openocd.exists()


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("openocd", "apt-get install openocd"),
        ("st-flash", "apt-get install stlink-tools"),
        ("platformio", "tool-openocd"),
        ("disk", "NODE_F446RE"),
        ("auto", "apt-get install openocd"),
    ],
)
def test_a_tool_that_is_missing_is_named_with_where_to_get_it(
    usb: FakeUsb, elf: Path, name: str, word: str
) -> None:
    assert name in TOOLS
    with pytest.raises(UserError) as caught:
        flash_file(elf, NUCLEO, tool=name)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says", "named"),
    [
        ("openocd", "Error: flash write failed\nshutdown command invoked", ["flash write failed"]),
        (
            "openocd",
            "Error: libusb_open() failed with LIBUSB_ERROR_ACCESS\nError: open failed",
            ["udev rule", "apt-get install openocd", "plug it in again"],
        ),
        ("openocd", "Error: open failed", ["no ST-LINK", "ondevice ports"]),
        ("openocd", "Error: init mode failed (unable to connect to the target)", ["powered"]),
        (
            "openocd",
            "Error: libusb_claim_interface() failed with LIBUSB_ERROR_BUSY",
            ["another program", "close it"],
        ),
        ("st-flash", "Couldn't find any ST-Link devices", ["no ST-LINK", "cable"]),
        ("st-flash", "unknown chip id! 0x482", ["newer version", "--tool openocd"]),
        ("st-flash", "", ["exit code 1"]),
    ],
)
def test_a_failing_tool_is_quoted_in_one_line_with_what_to_do(
    usb: FakeUsb, elf: Path, tool: Tool, name: str, says: str, named: list[str]
) -> None:
    tool(name, says, exit_code=1)
    with pytest.raises(UserError) as caught:
        flash_file(elf, NUCLEO, PORT)
    message = str(caught.value)
    assert "\n" not in message
    for word in [name, PORT, *named]:
        assert word in message


def test_another_chip_is_named_by_openocd_and_not_written(
    usb: FakeUsb, elf: Path, tool: Tool
) -> None:
    tool("openocd", "ondevice: chip id 0x431\nshutdown command invoked", exit_code=1)
    with pytest.raises(UserError, match=r"0x431, that of nucleo_f446re is 0x421; nothing was"):
        flash_file(elf, NUCLEO, PORT)


def test_another_chip_is_found_by_st_info_before_st_flash_writes(
    usb: FakeUsb, elf: Path, tool: Tool, tmp_path: Path
) -> None:
    usb.plug_in(PORT, SERIAL_NUMBER)
    calls = tool("st-flash")
    # As stlink 1.7.0 prints it.
    (tmp_path / "bin" / "st-info").write_text(
        "#!/bin/sh\n/bin/cat <<'END'\nFound 2 stlink programmers\n"
        "  version:    V2J40S27\n  serial:     066AFF\n  flash:      524288 (pagesize: 16384)\n"
        "  sram:       131072\n  chipid:     0x0421\n  descr:      F446\n"
        f"  version:    V2J40S27\n  serial:     {SERIAL_NUMBER}\n  chipid:     0x0431\n"
        "  descr:      F411xC_xE\nEND\n"
    )
    (tmp_path / "bin" / "st-info").chmod(0o755)
    with pytest.raises(UserError, match=r"its id is 0x431"):
        flash_file(elf, NUCLEO, PORT)
    assert not calls.exists()
    flash_file(elf, replace(NUCLEO, chip_id=0x431), PORT)
    assert calls.exists()


def test_a_board_that_says_that_it_is_another_one_is_not_flashed(
    usb: FakeUsb, elf: Path, tool: Tool
) -> None:
    usb.plug_in(PORT, SERIAL_NUMBER, "NODE_F446RE")
    calls = tool("openocd")
    with pytest.raises(UserError, match=rf"{PORT} .*{SERIAL_NUMBER}.* is nucleo_f446re, not other"):
        flash_file(elf, replace(NUCLEO, name="other"), PORT)
    assert not calls.exists()


def test_the_disk_of_the_port_gets_the_image(usb: FakeUsb, elf: Path) -> None:
    folder = usb.plug_in(PORT, SERIAL_NUMBER, "NODE_F446RE", mounted=True)
    (folder / "FAIL.TXT").write_text("of an earlier image\r\n")
    assert flash_file(elf, NUCLEO, PORT) == "disk"
    assert (folder / "my firmware.bin").read_bytes() == b"image"


def test_a_disk_is_found_by_its_label_where_the_port_is_not_known(
    usb: FakeUsb, elf: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "media" / "person" / "NODE_F446RE"
    folder.mkdir(parents=True)
    assert flash_file(elf, NUCLEO, tool="disk") == "disk"
    assert (folder / "my firmware.bin").read_bytes() == b"image"


def test_a_disk_that_is_not_mounted_is_named(usb: FakeUsb, elf: Path) -> None:
    usb.plug_in(PORT, SERIAL_NUMBER, "NODE_F446RE")
    with pytest.raises(UserError, match=r"NODE_F446RE is not mounted.*udisksctl"):
        flash_file(elf, NUCLEO, PORT, "disk")


def test_what_the_st_link_says_in_fail_txt_is_quoted(tmp_path: Path) -> None:
    """The ST-LINK takes its disk away and shows it anew, with FAIL.TXT."""
    disk, image = tmp_path / "disk", tmp_path / "firmware.bin"
    disk.mkdir()
    image.write_bytes(b"image")

    def refuse() -> None:
        while not (disk / image.name).exists():
            time.sleep(0.005)
        shutil.rmtree(disk)
        time.sleep(0.05)
        disk.mkdir()
        (disk / "FAIL.TXT").write_text("The interface firmware FAILED to\r\nreset the target.\r\n")

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(UserError, match=r"FAIL.TXT says: The interface firmware FAILED to reset"):
        stlink_disk.program_by_disk(image, disk, settle_s=60.0, return_s=60.0)
    thread.join()


def test_a_disk_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    image = tmp_path / "firmware.bin"
    image.write_bytes(b"image")
    with pytest.raises(UserError, match=r"none cannot be written"):
        stlink_disk.program_by_disk(image, tmp_path / "none", settle_s=0.0, return_s=0.0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--board", "host"), "only a real board is flashed; name it with --board"),
        ((), "only a real board is flashed"),
        (("--port", "/dev/ttyACM0"), "needs --board"),
        (("--board", "nucleo_f446re"), "none is plugged in"),
    ],
)
def test_the_verb_refuses_before_it_compiles_anything(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    usb: FakeUsb,
    options: tuple[str, ...],
    word: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["ondevice", "flash", *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1


def test_a_simulated_board_is_not_flashed(elf: Path) -> None:
    with pytest.raises(UserError, match="simulated"):
        flash_file(elf, load_board("qemu_f405"))


@pytest.mark.skipif(shutil.which("openocd") is None, reason="OpenOCD is not installed")
@pytest.mark.parametrize("name", [n for n in list_boards() if load_board(n).run == "serial"])
def test_openocd_itself_understands_what_it_is_told(tmp_path: Path, name: str) -> None:
    board = load_board(name)
    (programmer, *_) = find_programmers(board)
    command = programmer.command(tmp_path / "none.elf", board, "0123456789")
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    # It gets as far as opening an ST-LINK that is not there.
    assert "open failed" in said, said


@pytest.mark.parametrize("name", [n for n in list_boards() if load_board(n).run == "serial"])
def test_every_real_board_can_be_flashed_and_told_from_the_others(name: str) -> None:
    board = load_board(name)
    others = [load_board(n) for n in list_boards() if n != name and load_board(n).run == "serial"]
    assert board.openocd_target
    assert board.chip_id
    assert board.idcode_address
    assert board.usb_id in PROBES
    assert board.mount_labels
    assert board.chip_id not in {other.chip_id for other in others}
    assert not set(board.mount_labels) & {label for o in others for label in o.mount_labels}
    assert all(len(label) <= 11 for label in board.mount_labels)  # FAT
