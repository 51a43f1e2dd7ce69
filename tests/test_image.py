"""Firmware images: any byte that changed is found, by the host in the file and by the device."""

import random
import shutil
import stat
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from ondevice.boards import load_board
from ondevice.build import Firmware, build_firmware, flash, simulate_command
from ondevice.elf import read_sizes
from ondevice.errors import DeviceError, HandshakeError, UserError
from ondevice.flash_file import prepare_flash_file
from ondevice.image import MAGIC, ImageError, check_images, read_image, seal_image
from ondevice.link.device import Device
from ondevice.link.messages import Failure
from ondevice.link.transport import ProcessTransport

FAKE_MODEL = Path(__file__).parent / "c" / "fake_model.c"
BOARD = load_board("qemu_f405")
KEY = bytes(range(100, 132))


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    """The fake model for the simulated STM32F405, with a key."""
    folder = tmp_path_factory.mktemp("image")
    (folder / "model").mkdir()
    shutil.copy(FAKE_MODEL, folder / "model" / "model.c")
    return build_firmware(folder / "model", BOARD, folder / "build", key=KEY)


def image_of(firmware: Firmware) -> bytes:
    assert firmware.binary is not None
    return firmware.binary.read_bytes()


def connect(firmware: Firmware, key: bytes | None = KEY, flash_file: Path | None = None) -> Device:
    command = simulate_command(firmware, BOARD, flash_file)
    return Device(ProcessTransport(command, name=BOARD.name), key=key)


def with_image(firmware: Firmware, image: bytes, folder: Path) -> Firmware:
    """The same ELF file around another image."""
    content = firmware.elf.read_bytes()
    at = content.index(image_of(firmware)[:4096])
    assert content[at : at + len(image)] == image_of(firmware)
    elf = folder / "firmware.elf"
    elf.write_bytes(content[:at] + image + content[at + len(image) :])
    elf.with_suffix(".bin").write_bytes(image)
    return replace(firmware, elf=elf, binary=elf.with_suffix(".bin"))


def test_a_built_image_says_its_model_its_length_and_its_digest(firmware: Firmware) -> None:
    assert firmware.image.model_id == bytes(range(16)).hex()
    assert firmware.image.has_key
    assert read_image(firmware.elf) == check_images(firmware.elf) == firmware.image
    image = image_of(firmware)
    assert len(image) == read_sizes(firmware.elf).flash_bytes
    assert image.count(MAGIC) == 1
    assert image.count(KEY) == 1


def test_a_file_with_a_key_is_for_its_owner_only(firmware: Firmware) -> None:
    for path, mode in ((firmware.elf, 0o700), (firmware.binary, 0o600)):
        assert path is not None
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_host_finds_any_byte_that_changed(firmware: Firmware, tmp_path: Path) -> None:
    image, source = image_of(firmware), random.Random(0)
    header = image.index(MAGIC)
    places = set(range(header, header + 112)) | {0, len(image) - 1}
    places |= set(source.sample(range(len(image)), 300))
    path = tmp_path / "firmware.bin"
    for at in places:
        changed = bytearray(image)
        changed[at] ^= source.randrange(1, 256)
        path.write_bytes(changed)
        with pytest.raises(ImageError):
            read_image(path)
    for cut in (image[:-1], image + b"\0", image[1:], b"", image[: header + 20]):
        path.write_bytes(cut)
        with pytest.raises(ImageError, match=r"damaged|not a firmware image"):
            read_image(path)


def test_the_device_runs_an_image_that_is_whole(firmware: Firmware) -> None:
    with connect(firmware) as device:
        assert device.train(0.5).count > 0


def test_the_device_finds_a_byte_that_changed_and_does_not_train(
    firmware: Firmware, tmp_path: Path
) -> None:
    image = image_of(firmware)
    header = image.index(MAGIC)
    places = {
        "length": header + 8,
        "reserved": header + 12,
        "model id": header + 16,
        "digest": header + 32,
        "key": header + 64 + 31,
        "salt": header + 96,
        "constants": image.index(b"forward/fc"),
        "last byte": len(image) - 1,
    }
    for at in places.values():
        changed = bytearray(image)
        changed[at] ^= 0x10
        spoilt = with_image(firmware, bytes(changed), tmp_path)
        with pytest.raises(HandshakeError, match="is damaged: its digest differs; flash it"):
            connect(spoilt).close()
        with pytest.raises(ImageError):
            flash(spoilt, load_board("nucleo_f446re"))


def test_the_key_can_be_changed_and_taken_out_again(firmware: Firmware, tmp_path: Path) -> None:
    other = with_image(firmware, image_of(firmware), tmp_path)
    assert seal_image(other.elf, other.binary, None).has_key is False
    assert KEY not in other.elf.read_bytes() + image_of(other)
    with connect(other, key=None) as device:
        assert not device.info.authenticated
    first = seal_image(other.elf, other.binary, KEY)
    assert first.has_key
    assert seal_image(other.elf, other.binary, KEY) == first
    # A board whose whole flash is erased counts from 1 again: its nonces must still be others.
    assert seal_image(other.elf, other.binary, KEY, renew=True) != first
    assert check_images(other.elf).model_id == firmware.image.model_id


def test_each_start_of_the_simulated_board_has_its_own_nonce(firmware: Firmware) -> None:
    """It has no memory of its starts here; the simulator lends it entropy."""
    keys = set()
    for _ in range(3):
        with connect(firmware) as device:
            device._channel._nonce = bytes(16)
            keys.add(device._channel._session_key)
    assert len(keys) == 3


def test_a_board_with_flash_numbers_its_starts(firmware: Firmware, tmp_path: Path) -> None:
    flash_file = prepare_flash_file(tmp_path / "flash.bin", BOARD)
    for _ in range(3):
        with connect(firmware, flash_file=flash_file) as device:
            assert device.checkpoints() == []
    content = flash_file.read_bytes()
    for bank in range(2):
        end = (bank + 1) * BOARD.storage_bank_bytes
        marks = struct.unpack_from("<8I", content, end - BOARD.storage_bank_bytes // 16)
        numbers = [n for n in marks[::2] if n != 0xFFFFFFFF]
        assert sorted(set(numbers)) == [1, 2, 3]


def test_a_board_that_could_not_keep_sessions_apart_takes_no_key(tmp_path: Path) -> None:
    board = replace(load_board("nucleo_f446re"), storage_bank_bytes=0)
    with pytest.raises(UserError, match="takes no key"):
        build_firmware(tmp_path, board, tmp_path / "build", key=KEY)


def test_what_is_no_firmware_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "firmware.elf"
    with pytest.raises(ImageError, match="No such file"):
        read_image(path)
    for content in (b"\x7fELF", b"\x7fELF" + bytes(200), b"text", MAGIC):
        path.write_bytes(content)
        with pytest.raises(ImageError):
            read_image(path)


def test_a_damaged_device_executes_nothing_even_for_a_host_that_insists(
    fake_device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> Device:
        return Device(ProcessTransport([str(fake_device), "image"]))

    with pytest.raises(HandshakeError, match="is damaged"):
        start()
    monkeypatch.setattr(Device, "_check", lambda *_: None)
    with start() as device:
        assert device.info.image_damaged
        assert device.identity().image_digest  # this is still told
        for request in (device.train, device.evaluate, device.read_output, device.reset_model):
            with pytest.raises(DeviceError, match="its firmware is damaged") as caught:
                request()
            assert caught.value.code == Failure.IMAGE
