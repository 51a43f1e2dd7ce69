"""Checkpoints in a board's flash, asked for over the link; power cuts are in test_power_cuts."""

import math
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ondevice.errors import DeviceError, LinkError
from ondevice.link.device import Device
from ondevice.link.flash_checkpoint import decode_checkpoint, encode_loss, encode_which
from ondevice.link.messages import Failure
from ondevice.link.timing import Timing
from ondevice.link.transport import ProcessTransport
from ondevice.schedule import Schedule, ScheduleKind

IMPATIENT = Timing(retry_s=0.05, reply_s=20.0, command_s=20.0, connect_s=20.0)
RECORD_BYTES = 80 + (16 + 3000 + 40) + 8  # of tests/c/fake_model.c, in units of 8


@pytest.fixture
def device(compile_c: Callable[[str], Path]) -> Device:
    """With two banks of 16 KB, room for five records each."""
    return Device(ProcessTransport([str(compile_c("fake_device")), "flash"]), timing=IMPATIENT)


def train(device: Device, steps: int) -> None:
    for step in range(steps):
        device.write_input(bytes((step * 37 + i * 11) % 256 for i in range(600)))
        device.write_label(struct.pack("<I", step % 7))
        device.train(0.25)


def test_a_load_brings_back_parameters_scales_and_counters(device: Device) -> None:
    with device:
        assert device.info.keeps_checkpoints
        assert not device.info.restored
        device.reset_counters(run=2**63 + 5)
        train(device, 3)
        saved = device.read_parameters(), device.read_scales(), device.counters()
        assert device.save_checkpoint(0.5) == 1
        train(device, 4)
        assert device.read_parameters() != saved[0]
        found = device.load_checkpoint()
        assert (device.read_parameters(), device.read_scales(), device.counters()) == saved
    assert (found.sequence, found.run, found.trained, found.loss) == (1, 2**63 + 5, 3, 0.5)
    assert (found.bytes, found.bank_bytes) == (RECORD_BYTES, 16384)
    assert found.newest
    assert found.best


def test_newest_best_and_a_number_are_told_apart(device: Device) -> None:
    with device:
        weights = {}
        for number, loss in enumerate([3.0, 0.5, None, 0.75], start=1):
            train(device, 1)
            assert device.save_checkpoint(loss) == number
            weights[number] = device.read_parameters()
        assert device.load_checkpoint("best").sequence == 2
        assert device.read_parameters() == weights[2]
        assert device.load_checkpoint().sequence == 4
        assert device.read_parameters() == weights[4]
        found = device.load_checkpoint(3)
        assert (found.loss, found.newest, found.best) == (None, False, False)
        assert device.read_parameters() == weights[3]
        # The log goes on behind the newest, whichever was loaded.
        assert device.save_checkpoint() == 5


def test_the_list_begins_with_the_newest_and_names_a_carried_copy_once(device: Device) -> None:
    with device:
        for number in range(1, 8):
            device.save_checkpoint(1.0 if number == 2 else 9.0)
        found = device.checkpoints()
        # The sixth found bank A full: B was erased, took the best, then 6 and 7.
        assert [c.sequence for c in found] == [7, 6, 5, 4, 3, 2, 1]
        assert [c.sequence for c in found if c.best] == [2]
        assert [c.sequence for c in found if c.newest] == [7]
        assert {c.erase_counts for c in found} == {(1, 1)}
        for _ in range(5):
            device.save_checkpoint(9.0)
        assert [c.sequence for c in device.checkpoints()] == [12, 11, 10, 9, 8, 7, 6, 2]
        assert device.load_checkpoint("best").sequence == 2


def test_the_best_of_an_earlier_run_is_not_that_of_this_one(device: Device) -> None:
    with device:
        device.reset_counters(run=1)
        device.save_checkpoint(0.1)
        device.reset_counters(run=2)
        device.save_checkpoint(0.5)
        device.save_checkpoint(0.7)
        assert [c.sequence for c in device.checkpoints() if c.best] == [2]
        for _ in range(9):  # more than a bank holds
            device.save_checkpoint(0.9)
        assert device.load_checkpoint("best").sequence == 2
        device.load_checkpoint(12)
        device.reset_counters(run=3)
        device.save_checkpoint()
        with pytest.raises(DeviceError, match="no such checkpoint"):
            device.load_checkpoint("best")


def test_a_loss_that_is_not_a_number_is_never_the_best(device: Device) -> None:
    with device:
        for loss in (math.nan, math.inf, -math.inf, 1e300, None):
            device.save_checkpoint(loss)
        assert [c.loss for c in device.checkpoints()] == [None] * 5
        with pytest.raises(DeviceError, match="no such checkpoint") as caught:
            device.load_checkpoint("best")
        assert caught.value.code == Failure.CHECKPOINT
        assert device.load_checkpoint().sequence == 5


def test_what_is_not_there_changes_nothing(device: Device) -> None:
    with device:
        train(device, 2)
        before = device.read_parameters(), device.counters()
        for which in ("newest", "best", 7):
            with pytest.raises(DeviceError) as caught:
                device.load_checkpoint(which)
            assert caught.value.code == Failure.CHECKPOINT
        assert device.checkpoints() == []
        assert (device.read_parameters(), device.counters()) == before
        train(device, 1)


def test_erased_checkpoints_are_gone_and_numbers_begin_again(device: Device) -> None:
    with device:
        device.save_checkpoint(1.0)
        device.erase_checkpoints()
        assert device.checkpoints() == []
        assert device.save_checkpoint() == 1


def test_a_load_ends_a_schedule_and_an_upload_that_was_cut_short(device: Device) -> None:
    with device:
        device.save_checkpoint()
        device.set_schedule(Schedule(ScheduleKind.CONSTANT, 0.5, total_steps=9))
        device.load_checkpoint()
        with pytest.raises(DeviceError) as caught:
            device.train()
        assert caught.value.code == Failure.SCHEDULE
        device._channel.request(0x30)  # type: ignore[arg-type]
        with pytest.raises(DeviceError) as caught:
            device.save_checkpoint()
        assert caught.value.code == Failure.STATE
        device.load_checkpoint()
        train(device, 1)


def test_a_board_without_flash_says_so(compile_c: Callable[[str], Path]) -> None:
    transport = ProcessTransport([str(compile_c("fake_device"))])
    with Device(transport, timing=IMPATIENT) as device:
        assert not device.info.keeps_checkpoints
        calls = (
            device.save_checkpoint, device.load_checkpoint, device.checkpoints,
            device.erase_checkpoints,
        )  # fmt: skip
        for call in calls:
            with pytest.raises(DeviceError, match="does not support") as caught:
                call()
            assert caught.value.code == Failure.UNSUPPORTED


def test_numbers_that_no_checkpoint_has_are_refused_before_they_are_sent() -> None:
    for number in (0, 2**32 - 1, -1):
        with pytest.raises(ValueError, match=str(number)):
            encode_which(number)
    assert struct.unpack("<f", encode_loss(1.5)) == (1.5,)
    with pytest.raises(LinkError, match="3 bytes"):
        decode_checkpoint(b"abc")
