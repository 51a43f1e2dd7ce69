"""The board's own sensor: windows that do not cross the link become what the host would send."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ondevice.boards import load_board
from ondevice.build import Firmware, build_firmware, simulate_command
from ondevice.errors import DeviceError, UserError
from ondevice.input_settings import DataSettings
from ondevice.link.device import Device
from ondevice.link.messages import Failure
from ondevice.link.sensor import encode_setup
from ondevice.link.transport import ProcessTransport
from ondevice.live.board_sensor import BoardSensorSource
from ondevice.live.source import EndOfSourceError
from ondevice.preprocessing import Preprocessing, to_manifest
from ondevice.sensor_file import prepare_sensor_file, sensor_bytes
from ondevice_compiler.compile import CompiledModel, CompileOptions, compile_model
from ondevice_compiler.samples import pack_label, pack_sample

WINDOW, CHANNELS, CLASSES = 16, 3, 2
OFFSET, GAIN = (0.1, -2.0, 9.81), (1.7, 0.33, 0.051)
BUILD = Path(__file__).resolve().parent.parent / "build" / "tests" / "sensor"


@cache
def model(layout: str, dtype: str = "int8") -> CompiledModel:
    """A convolution over windows and a linear layer, or a linear layer over [samples, channels]."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    how = Preprocessing(("ax", "ay", "az"), 50.0, WINDOW, 8, layout, OFFSET, GAIN)
    x = how.apply(generator.normal(2, 4, (32, WINDOW, CHANNELS)).astype(np.float32))
    if layout == "channels_first":
        network = nn.Sequential(
            nn.Conv1d(CHANNELS, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(56, CLASSES)
        )
    else:
        network = nn.Sequential(nn.Flatten(), nn.Linear(WINDOW * CHANNELS, CLASSES))
    options = CompileOptions("sensing", dtype=dtype, preprocessing=to_manifest(how))
    return compile_model(network, x, np.arange(32) % CLASSES, options)


def recording(seed: int = 1, windows: int = 6) -> NDArray[np.float32]:
    """Values of every size, some far outside the calibrated range."""
    generator = np.random.default_rng(seed)
    values = generator.normal(2, 4, (windows * WINDOW, CHANNELS))
    values[generator.random(values.shape) < 0.05] *= 1e4
    return values.astype(np.float32)


def firmware(compiled: CompiledModel, board: str, export: bool | None = None) -> Firmware:
    """Built once for all tests of a process."""
    name = f"{board}-{compiled.manifest['model_id']}-{export}"
    folder = BUILD / name
    compiled.write(folder / "model")
    return build_firmware(folder / "model", load_board(board), folder, None, export)


@contextmanager
def sensing(built: Firmware, board: str, content: bytes | None, folder: Path) -> Iterator[Device]:
    path = None
    if content is not None:
        path = folder / "sensor, of a board.bin"
        path.write_bytes(content)
    command = simulate_command(built, load_board(board), None, path)
    with Device(ProcessTransport(command, name=board)) as device:
        yield device


def sent(compiled: CompiledModel, window: NDArray[np.float32]) -> bytes:
    """The input as the host packs it."""
    how = Preprocessing(("ax", "ay", "az"), 50.0, WINDOW, 8, layout_of(compiled), OFFSET, GAIN)
    sample = how.sample(window).reshape(compiled.manifest["input"]["source_shape"][1:])
    return pack_sample(compiled.manifest, sample)


def layout_of(compiled: CompiledModel) -> str:
    return str(compiled.manifest["preprocessing"]["layout"])


def read_input(device: Device) -> bytes:
    from ondevice.link.messages import Region

    return device._read(Region.INPUT, 0, device.info.input_bytes)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_a_sensed_window_is_bit_for_bit_what_the_host_would_have_sent(
    layout: str, dtype: str, tmp_path: Path
) -> None:
    compiled, values = model(layout, dtype), recording()
    built = firmware(compiled, "host")
    with sensing(built, "host", sensor_bytes(values, 50.0), tmp_path) as device:
        assert device.sensor.describe().rate_hz == 50.0
        device.sensor.setup(compiled.manifest)
        for start in range(0, len(values), WINDOW):
            device.sensor.sense()
            assert read_input(device) == sent(compiled, values[start : start + WINDOW])


@pytest.mark.parametrize("board", ["host", "qemu_f405"])
def test_training_on_the_boards_own_sensor_gives_the_weights_of_samples_that_were_sent(
    board: str, tmp_path: Path
) -> None:
    compiled, values = model("channels_first"), recording()
    windows = values.reshape(-1, WINDOW, CHANNELS)

    def trained(prepare: Callable[[Device, int], None]) -> list[bytes]:
        built = firmware(compiled, board)
        with sensing(built, board, sensor_bytes(values, 50.0), tmp_path) as device:
            device.sensor.setup(compiled.manifest)
            for index in range(len(windows)):
                prepare(device, index)
                device.write_label(pack_label(compiled.manifest, index % CLASSES))
                device.train(0.05)
            return device.read_parameters()

    def send(device: Device, index: int) -> None:
        device.write_input(sent(compiled, windows[index]))

    assert trained(lambda device, index: device.sensor.sense()) == trained(send)


def refusal(do: Callable[[], object]) -> int:
    with pytest.raises(DeviceError) as caught:
        do()
    return caught.value.code


def test_a_board_without_a_sensor_or_at_its_end_says_so(tmp_path: Path) -> None:
    compiled = model("channels_first")
    built = firmware(compiled, "host")
    with sensing(built, "host", None, tmp_path) as device:
        assert refusal(device.sensor.describe) == Failure.UNSUPPORTED
    short = sensor_bytes(recording(windows=1), None)
    with sensing(built, "host", short, tmp_path) as device:
        assert device.sensor.describe().rate_hz is None
        assert refusal(device.sensor.sense) == Failure.STATE  # nobody said how
        device.sensor.setup(compiled.manifest)
        device.sensor.sense()
        assert refusal(device.sensor.sense) == Failure.SENSOR
        assert device.evaluate().loss > 0  # and it goes on


def test_a_value_that_is_no_number_is_refused_not_trained_on(tmp_path: Path) -> None:
    compiled, values = model("channels_first"), recording()
    values[3, 1] = np.nan
    with sensing(firmware(compiled, "host"), "host", sensor_bytes(values, 50), tmp_path) as device:
        device.sensor.setup(compiled.manifest)
        assert refusal(device.sensor.sense) == Failure.SENSOR


def test_raw_samples_leave_only_a_board_that_was_built_to_let_them(tmp_path: Path) -> None:
    compiled, values = model("channels_first"), recording()
    content = sensor_bytes(values, 50.0)
    with sensing(firmware(compiled, "host", False), "host", content, tmp_path) as device:
        assert refusal(lambda: device.sensor.read(1)) == Failure.PRIVATE
        device.sensor.setup(compiled.manifest)
        device.sensor.sense()  # what it learns from stays there
    with sensing(firmware(compiled, "host"), "host", content, tmp_path) as device:
        np.testing.assert_array_equal(device.sensor.read(len(values)), values)
        assert refusal(lambda: device.sensor.read(1)) == Failure.SENSOR


def test_another_board_is_a_live_source_to_the_end_of_its_samples(tmp_path: Path) -> None:
    compiled, values = model("channels_first"), recording()
    content = sensor_bytes(values, 50.0)
    with sensing(firmware(compiled, "host"), "host", content, tmp_path) as device:
        source = BoardSensorSource(device)
        assert source.rate_hz == 50.0
        assert source.channels == ("channel0", "channel1", "channel2")
        count = -(-len(values) // 5)  # a tenth of a second at once
        chunks = [source.read(1.0) for _ in range(count)]
        with pytest.raises(EndOfSourceError):
            source.read(1.0)
        found = np.concatenate([chunk.values for chunk in chunks if chunk is not None])
        np.testing.assert_array_equal(found, values)


def test_a_model_that_the_sensor_cannot_feed_is_named() -> None:
    manifest = model("channels_first").manifest
    with pytest.raises(UserError, match="2 channels, and model 'sensing' was trained on 3"):
        encode_setup(manifest, 2)
    with pytest.raises(UserError, match="was not trained on plain windows"):
        encode_setup({**manifest, "preprocessing": None}, 3)


def test_a_csv_recording_becomes_what_the_simulated_sensor_plays(tmp_path: Path) -> None:
    path = tmp_path / "walk.csv"
    path.write_text("t_s,ax,ay,label\n0.00,1,2,a\n0.02,3,4,a\n0.04,5,6,a\n")
    made = prepare_sensor_file(path, DataSettings(), tmp_path)
    expected = sensor_bytes(np.array([[1, 2], [3, 4], [5, 6]], np.float32), 50.0)
    assert made.read_bytes() == expected
    assert prepare_sensor_file(made, DataSettings(), tmp_path) == made
    with pytest.raises(UserError, match=r"is one of \.csv"):
        prepare_sensor_file(Path(__file__), DataSettings(), tmp_path)
    with pytest.raises(UserError, match="allowed: 1 to 16"):
        sensor_bytes(np.zeros((1, 17), np.float32), None)


def test_python_trains_and_predicts_on_the_boards_own_sensor(tmp_path: Path) -> None:
    import torch
    from torch import nn

    import ondevice

    torch.manual_seed(0)
    values = np.random.default_rng(4).normal(0, 1, (20 * WINDOW, CHANNELS)).astype(np.float32)
    recorded = tmp_path / "swing.csv"
    np.savetxt(recorded, values, delimiter=",", header="ax,ay,az", comments="")
    for label in ("still", "swing"):
        (tmp_path / "data" / label).mkdir(parents=True)
        (tmp_path / "data" / label / "1.csv").write_bytes(recorded.read_bytes())
    network = nn.Sequential(nn.Conv1d(CHANNELS, 4, 3), nn.Flatten(), nn.Linear(56, CLASSES))
    compiled = ondevice.compile(
        network, data=tmp_path / "data", window={"samples": WINDOW}, board="host"
    )
    with compiled.connect(sensor_file=recorded) as board:
        first = board.sense()
        np.testing.assert_array_equal(first, board.predict(values[:WINDOW].T))
        for _ in range(10):
            board.sense(0, learning_rate=0.1)
        assert board.sense()[0] > first[0] + 0.2
