"""Serial ports: which board is behind each, and the one that a run takes by itself."""

from pathlib import Path

import pytest

from fake_usb import FakeUsb, usb
from ondevice.boards import load_board
from ondevice.config import DeviceSettings
from ondevice.ports import PortError, check_port_is, find_port, list_ports, port_at
from ondevice.target import real_port, target_board

__all__ = ["usb"]
NUCLEO = load_board("nucleo_f446re")


def test_the_label_of_its_disk_says_which_board_is_behind_a_port(usb: FakeUsb) -> None:
    usb.plug_in("/dev/ttyACM0", "066A", "NODE_F446RE")
    usb.plug_in("/dev/ttyACM1", "066B", "NODE_F303K8")
    first, second, other = list_ports()
    assert (first.boards, first.serial_number) == (("nucleo_f446re",), "066A")
    assert (second.boards, other.boards) == ((), ())
    assert str(first) == "/dev/ttyACM0  STM32 STLink  board: nucleo_f446re  serial number 066A"
    assert "board: NODE_F303K8, which has no boards/*.ini" in str(second)
    assert str(other).strip() == "/dev/ttyS0"


def test_without_a_disk_the_probe_says_which_boards_it_may_be(usb: FakeUsb) -> None:
    usb.plug_in("/dev/ttyACM0", "066A", usb_id="0483:3752")  # an ST-LINK/V2-1 without a disk
    usb.plug_in("/dev/ttyACM1", "0001", usb_id="2341:0043")  # an Arduino
    probe, other, _ = list_ports()
    assert "nucleo_f446re" in probe.boards
    assert other.boards == ()


def test_the_only_board_of_its_kind_is_found_among_others(usb: FakeUsb) -> None:
    usb.plug_in("/dev/ttyACM3", "066A", "NODE_F303K8")
    usb.plug_in("/dev/ttyACM1", "066B", "NODE_F446RE")
    assert find_port(NUCLEO).device == "/dev/ttyACM1"
    assert real_port(DeviceSettings(board="nucleo_f446re"), NUCLEO) == "/dev/ttyACM1"


def test_a_named_port_is_taken_as_it_is(usb: FakeUsb) -> None:
    assert real_port(DeviceSettings(port="/dev/ttyUSB9"), NUCLEO) == "/dev/ttyUSB9"


def test_several_boards_of_a_kind_are_named_with_their_serial_numbers(usb: FakeUsb) -> None:
    usb.plug_in("/dev/ttyACM0", "066A", "NODE_F446RE")
    usb.plug_in("/dev/ttyACM1", "066B")
    with pytest.raises(PortError) as caught:
        find_port(NUCLEO)
    message = str(caught.value)
    assert "2 boards may be the nucleo_f446re" in message
    assert "/dev/ttyACM0 (serial number 066A), /dev/ttyACM1 (serial number 066B)" in message
    assert "--port" in message


def test_another_board_is_told_from_the_one_that_was_asked_for(usb: FakeUsb) -> None:
    usb.plug_in("/dev/ttyACM0", "066A", "NODE_F303K8")
    with pytest.raises(PortError, match=r"no nucleo_f446re.*/dev/ttyACM0 .*066A.* is NODE_F303K8"):
        find_port(NUCLEO)


def test_a_real_board_that_is_not_there_is_missed_before_anything_is_compiled(
    usb: FakeUsb,
) -> None:
    settings = DeviceSettings(board="nucleo_f446re")
    with pytest.raises(PortError, match=r"none is plugged in.*--port.*ondevice boards"):
        target_board(settings)
    assert target_board(settings, connect=False) == NUCLEO


def test_a_port_is_known_by_any_of_its_paths(usb: FakeUsb, tmp_path: Path) -> None:
    usb.plug_in("/dev/ttyACM0", "066A", "NODE_F446RE")
    link = tmp_path / "usb-STMicroelectronics_066A-if02"
    link.symlink_to("/dev/ttyACM0")
    found = port_at(str(link))
    assert found is not None
    assert found.serial_number == "066A"
    assert port_at("/dev/ttyACM7") is None


def test_a_disk_is_found_with_its_folder_even_if_that_has_a_space(usb: FakeUsb) -> None:
    folder = usb.plug_in("/dev/ttyACM0", "066A", "NODE_F446RE", mounted=True)
    disk = list_ports()[0].disk
    assert disk is not None
    assert (disk.label, disk.folder) == ("NODE_F446RE", folder)


def test_a_label_decides_only_where_it_is_known(usb: FakeUsb) -> None:
    """A board's newer revision may have a label that we do not know: --port then settles it."""
    usb.plug_in("/dev/ttyACM0", "066A", "NODE_F446R2")
    check_port_is(list_ports()[0], NUCLEO)
