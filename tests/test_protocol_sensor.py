"""Requests to the board's own sensor, on the runtime under the sanitizers."""

import ctypes
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coverage_flags import coverage_flags
from native_model import CFLAGS, ROOT, WARNINGS
from ondevice.errors import DeviceError
from ondevice.link.device import Device
from ondevice.link.messages import Failure, Region, Request
from ondevice.link.transport import ProcessTransport

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
CHANNELS, ELEMENTS = 2, 600  # of the fake sensor, and of the fake model's input


class _Channel(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_float), ("gain", ctypes.c_float))


class _Sensing(ctypes.Structure):
    _fields_ = (
        ("window", ctypes.c_uint32),
        ("time_stride", ctypes.c_uint32),
        ("channel_stride", ctypes.c_uint32),
        ("zero_point", ctypes.c_int32),
        ("scale", ctypes.c_double),
        ("channels", ctypes.c_uint32),
        ("channel", _Channel * 16),
    )


@pytest.fixture(scope="module")
def sensing(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("sensing") / "sensing.so"
    flags = [*CFLAGS, *WARNINGS, *coverage_flags(), f"-I{ROOT / 'runtime/include'}"]
    source = ROOT / "runtime/src/sensing.c"
    subprocess.run(["gcc", *flags, "-shared", "-fPIC", "-o", path, source], check=True)
    function = ctypes.CDLL(str(path)).od_sense_value
    function.argtypes = [
        ctypes.POINTER(_Sensing), ctypes.c_uint32, ctypes.c_float, ctypes.c_void_p, ctypes.c_uint32,
    ]  # fmt: skip
    return function


@settings(deadline=None, max_examples=500)
@given(
    value=FINITE,
    offset=FINITE,
    gain=FINITE,
    scale=st.floats(1e-6, 1e3),
    zero_point=st.integers(-128, 127),
)
def test_a_value_becomes_the_integer_that_the_host_packs(
    sensing: Any, value: float, offset: float, gain: float, scale: float, zero_point: int
) -> None:
    how = _Sensing(1, 1, 1, zero_point, scale, 1)
    how.channel[0] = _Channel(offset, gain)
    found = ctypes.c_int8()
    status = sensing(ctypes.byref(how), 0, value, ctypes.byref(found), 0)
    with np.errstate(over="ignore"):
        normal = (np.float32(value) - np.float32(offset)) * np.float32(gain)
    if not np.isfinite(normal):
        assert status < 0
        return
    expected = np.clip(np.rint(np.float64(normal) / scale) + zero_point, -128, 127)
    assert (status, found.value) == (0, int(expected))


@pytest.mark.parametrize("steps", [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.4999, 1e9, -1e9])
def test_ties_go_to_the_even_integer(sensing: Any, steps: float) -> None:
    how = _Sensing(1, 1, 1, 0, 1.0, 1)
    how.channel[0] = _Channel(0.0, 1.0)
    found = ctypes.c_int8()
    assert sensing(ctypes.byref(how), 0, steps, ctypes.byref(found), 0) == 0
    assert found.value == int(np.clip(np.rint(steps), -128, 127))


def setup(
    window: int = ELEMENTS // CHANNELS,
    time_stride: int = 1,
    channel_stride: int = ELEMENTS // CHANNELS,
    zero_point: int = 3,
    scale: float = 0.5,
    channels: int = CHANNELS,
) -> bytes:
    head = struct.pack("<IIIidI", window, time_stride, channel_stride, zero_point, scale, channels)
    return head + struct.pack("<ffff", 1.0, 0.25, 0.0, 2.0)


def refusal(device: Device, request: Request, payload: bytes = b"") -> int:
    with pytest.raises(DeviceError) as caught:
        device._channel.request(request, payload)
    return caught.value.code


@pytest.fixture
def device(fake_device: Path) -> Any:
    with Device(ProcessTransport([str(fake_device)])) as opened:
        yield opened


def test_windows_of_the_sensor_fill_the_input_until_it_ends(device: Device) -> None:
    assert device.sensor.describe().channels == CHANNELS
    assert refusal(device, Request.SENSE) == Failure.STATE
    device._channel.request(Request.SENSOR_SETUP, setup())
    for window in range(3):
        device.sensor.sense()
        found = np.frombuffer(device._read(Region.INPUT, 0, ELEMENTS), np.int8)
        n = np.arange(300) + 300 * window
        first = np.rint((n - 1) * 0.25 / 0.5) + 3
        second = np.rint(-n / 8 * 2 / 0.5) + 3
        expected = np.clip(np.concatenate([first, second]), -128, 127)
        np.testing.assert_array_equal(found, expected.astype(np.int8))
    assert refusal(device, Request.SENSE) == Failure.SENSOR  # 100 samples are left, then infinity


def test_raw_samples_come_whole_up_to_the_last_one(device: Device) -> None:
    found = device.sensor.read(1000)
    np.testing.assert_array_equal(found[:, 0], np.arange(1000))
    np.testing.assert_array_equal(found[:, 1], -np.arange(1000) / 8)
    assert np.isinf(device.sensor.read(5)).any()  # the last one; there were not five
    assert refusal(device, Request.SENSOR_READ, struct.pack("<I", 1)) == Failure.SENSOR


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": 301},
        {"time_stride": 2},
        {"channel_stride": 301},
        {"time_stride": 2**32 - 1},
        {"zero_point": 128},
        {"zero_point": -129},
        {"scale": -1.0},
        {"scale": float("nan")},
        {"scale": 0.0},  # float32: four bytes an element
        {"channels": 1},
        {"channels": 2**31},
    ],
    ids=str,
)
def test_a_setup_that_does_not_fill_the_input_is_refused(device: Device, wrong: Any) -> None:
    assert refusal(device, Request.SENSOR_SETUP, setup(**wrong)) == Failure.VALUE
    assert refusal(device, Request.SENSE) == Failure.STATE


def test_lengths_that_nobody_asked_for_are_refused(device: Device) -> None:
    assert refusal(device, Request.SENSOR_SETUP, setup()[:-1]) == Failure.LENGTH
    for samples in (0, 129, 2**32 - 1):
        payload = struct.pack("<I", samples)
        assert refusal(device, Request.SENSOR_READ, payload) == Failure.RANGE
