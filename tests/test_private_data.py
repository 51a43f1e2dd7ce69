"""What the link gives away: weights, never samples, gradients or optimiser state."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ondevice.boards import load_board
from ondevice.errors import DeviceError
from ondevice.link.device import Device
from ondevice.link.messages import Failure, ParameterKind, Region, Request, encode_read
from ondevice.link.transport import ProcessTransport
from ondevice.toolchain import definitions
from ondevice_compiler.emit import ABI
from small_networks import compiled

PRIVATE = [(Region.INPUT, 0), (Region.LABEL, 0), (Region.PARAMETER, 1)]
PUBLIC = [(Region.PARAMETER, 0), (Region.OUTPUT, 0), (Region.SCALES, 0), (Region.PROFILE, 0)]


@pytest.fixture
def private_device(fake_device: Path) -> Iterator[Device]:
    """A board whose second parameter is optimiser state, built not to give it away."""
    with Device(ProcessTransport([str(fake_device), "private"])) as device:
        yield device


def read(device: Device, region: Region, index: int, offset: int = 0, length: int = 4) -> bytes:
    return device._channel.request(Request.READ, encode_read(region, index, offset, length))


@pytest.mark.parametrize(("region", "index"), PRIVATE)
@pytest.mark.parametrize("length", [0, 1, 4])
def test_samples_labels_and_optimiser_state_do_not_leave_the_device(
    private_device: Device, region: Region, index: int, length: int
) -> None:
    with pytest.raises(DeviceError, match="does not leave the device") as caught:
        read(private_device, region, index, 0, length)
    assert caught.value.code == Failure.PRIVATE


@pytest.mark.parametrize(("region", "index"), PUBLIC)
def test_weights_and_results_do(private_device: Device, region: Region, index: int) -> None:
    assert len(read(private_device, region, index)) == 4


def test_a_board_that_allows_it_gives_everything(fake_device: Path) -> None:
    with Device(ProcessTransport([str(fake_device)])) as device:
        assert device.info.allow_export
        for region, index in PRIVATE + PUBLIC:
            assert len(read(device, region, index)) == 4


def test_parameters_of_a_private_board_hold_weights_and_fresh_state(private_device: Device) -> None:
    assert not private_device.info.allow_export
    kinds = [tensor.kind for tensor in private_device.parameters()]
    assert kinds == [ParameterKind.WEIGHT, ParameterKind.OPTIMIZER_STATE]
    private_device.write_input(bytes(600))
    private_device.train(0.5)
    weights, state = private_device.read_parameters()
    assert weights != bytes(16)
    assert state == bytes(3000)
    private_device.write_parameters([weights, state])  # what it gave, it takes back
    assert private_device.read_parameters() == [weights, state]


def test_the_checksum_of_an_upload_does_not_tell_what_was_there(private_device: Device) -> None:
    """Else a CRC over all but four known bytes is those four bytes."""
    weights = private_device.read_parameters()[0]
    private_device._channel.request(Request.PARAMETERS_BEGIN)
    with pytest.raises(DeviceError) as caught:
        private_device._channel.request(Request.PARAMETERS_COMMIT, bytes(4))
    assert caught.value.code == Failure.CRC
    assert caught.value.detail & 0xFFFFFFFF == zlib.crc32(bytes(3000), zlib.crc32(weights))


def test_chosen_weights_do_not_meet_the_last_sample(private_device: Device) -> None:
    """An upload forgets the sample, which weights made for it would carry to the output."""
    private_device.write_input(bytes([7]) * 600)
    assert private_device.evaluate().predicted == 7
    private_device.write_parameters(private_device.read_parameters())
    assert private_device.evaluate().predicted == 0


@pytest.mark.parametrize(
    ("board", "allowed"),
    [("host", "1"), ("qemu_f405", "1"), ("nucleo_f446re", "0"), ("renode_f446re", "0")],
)
def test_only_boards_of_host_and_qemu_allow_it_unasked(board: str, allowed: str) -> None:
    assert definitions(load_board(board))["OD_ALLOW_EXPORT"] == allowed
    assert definitions(load_board(board), allow_export=True)["OD_ALLOW_EXPORT"] == "1"
    assert definitions(load_board(board), allow_export=False)["OD_ALLOW_EXPORT"] == "0"


@pytest.mark.parametrize(("optimizer", "samples"), [("sgd", 1), ("momentum", 2), ("adam", 2)])
def test_generated_c_says_what_each_parameter_holds(optimizer: str, samples: int) -> None:
    made = compiled("perceptron", optimizer=optimizer, accumulation_steps=samples).model
    constants = {
        "momentum": "OD_OPTIMIZER_STATE",
        "first moment": "OD_OPTIMIZER_STATE",
        "second moment": "OD_OPTIMIZER_STATE",
        "accumulator": "OD_ACCUMULATED_GRADIENT",
        "counter": "OD_UPDATE_COUNT",
    }
    text = made.files["model.c"]
    assert made.manifest["abi"] == ABI == 5
    for entry in made.manifest["parameters"]:
        line = next(line for line in text.splitlines() if f'{{"{entry["name"]}",' in line)
        assert line.endswith(f", {constants.get(entry['format'], 'OD_WEIGHT')}}},")
    private = [e for e in made.manifest["parameters"] if e["format"] in constants]
    assert len(private) > 1 or optimizer == "sgd"
