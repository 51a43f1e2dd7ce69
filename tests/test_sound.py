"""Sound from files and the microphone, to a network that learns its features."""

import json
import sys
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from typer.testing import CliRunner

from ondevice.cli import app
from ondevice.config import load_config
from ondevice.data import DataError
from ondevice.datasets.formats import load_samples
from ondevice.datasets.resample import resample
from ondevice.datasets.wav import load_sound
from ondevice.errors import UserError
from ondevice.live.microphone import open_microphone

BUILD = Path(__file__).resolve().parent.parent / "build" / "tests" / "sound"
RATE_HZ = 8000


def tone(hz: float, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> NDArray[np.float32]:
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    return (0.4 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def write_pcm16(path: Path, values: NDArray[np.float32], rate_hz: int = RATE_HZ) -> Path:
    """By Python's own module, not by the library that reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if values.ndim == 1 else values.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((values * 32767).round().astype("<i2").tobytes())
    return path


def test_a_wav_file_is_read_exactly_and_channels_are_averaged(tmp_path: Path) -> None:
    values = tone(440)
    mono = write_pcm16(tmp_path / "mono.wav", values)
    expected = (values * 32767).round() / 32768
    np.testing.assert_array_equal(load_sound(mono, RATE_HZ), expected.astype(np.float32))
    both = write_pcm16(tmp_path / "both.wav", np.stack([values, 0 * values], axis=1))
    np.testing.assert_allclose(load_sound(both, RATE_HZ), expected / 2, atol=1e-7)
    soundfile.write(tmp_path / "mono.flac", values, RATE_HZ)
    np.testing.assert_allclose(load_sound(tmp_path / "mono.flac", RATE_HZ), values, atol=1e-4)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 16000), (8000, 16000), (48000, 16000)])
def test_resampling_keeps_a_tone_and_stops_what_would_alias(from_hz: int, to_hz: int) -> None:
    from scipy.signal import resample_poly

    heard = tone(1000, rate_hz=from_hz)
    found = resample(heard, from_hz, to_hz)
    middle = slice(to_hz // 10, -to_hz // 10)
    expected = tone(1000, rate_hz=to_hz)
    assert len(found) == len(expected) == len(resample_poly(heard, to_hz, from_hz))
    assert abs(found - expected)[middle].max() < 2e-3
    if from_hz > to_hz:
        aliased = resample(tone(0.5 * to_hz + 1500, rate_hz=from_hz), from_hz, to_hz)
        assert abs(aliased)[middle].max() < 4e-4  # 60 dB below


def test_short_clips_are_filled_up_and_whole_clips_are_held_out(tmp_path: Path) -> None:
    for index in range(4):
        write_pcm16(tmp_path / "low" / f"{index}.wav", tone(300, 0.6))
        write_pcm16(tmp_path / "high" / f"{index}.wav", tone(2000, 1.0))
    settings = load_config(None, {"window": {"samples": RATE_HZ}, "audio": {"rate_hz": RATE_HZ}})
    data, how = load_samples(tmp_path, settings)
    assert how is not None
    assert (how.channels, how.rate_hz) == (("sound",), RATE_HZ)
    assert data.x.shape == (6, 1, RATE_HZ)
    assert data.x_test.shape == (2, 1, RATE_HZ)
    low = data.x[data.y == data.class_names.index("low")]
    assert not low[:, :, int(0.6 * RATE_HZ) :].any()


def test_what_is_no_sound_is_refused_in_words(tmp_path: Path) -> None:
    settings = load_config(None, {"window": {"samples": 100}})
    bad = tmp_path / "a" / "1.wav"
    bad.parent.mkdir()
    bad.write_bytes(b"RIFF no")
    with pytest.raises(DataError, match=r"1\.wav: not a readable sound file"):
        load_samples(tmp_path, settings)
    with pytest.raises(DataError, match=r"set window\.samples"):
        load_samples(tmp_path, load_config())
    soundfile.write(bad, np.zeros(0, np.float32), 8000)
    with pytest.raises(DataError, match="no sound in it"):
        load_samples(tmp_path, settings)


def test_a_network_learns_log_mel_features_of_sound_files(tmp_path: Path) -> None:
    import torch
    from torch import nn

    generator = np.random.default_rng(0)
    for index in range(12):
        noise = generator.normal(0, 0.05, RATE_HZ).astype(np.float32)
        start, end = 300 * 1.1 ** generator.random(), 2500 * 1.1 ** generator.random()
        for label, low, high in (("rising", start, end), ("falling", end, start)):
            t = np.arange(RATE_HZ) / RATE_HZ
            chirp = 0.3 * np.sin(2 * np.pi * (low * t + (high - low) * t**2 / 2))
            write_pcm16(tmp_path / "data" / label / f"{index}.wav", (chirp + noise).clip(-1, 1))
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30 * 9, 2)
    )
    example = (torch.zeros(1, 1, 62, 20),)
    torch.export.save(torch.export.export(network.eval(), example), tmp_path / "chirp.pt2")
    (tmp_path / "mine.toml").write_text(
        """
        [model]
        file = "chirp.pt2"
        [data]
        file = "data"
        [window]
        samples = 8000
        [audio]
        rate_hz = 8000
        features = "log_mel"
        frame_samples = 200
        hop_samples = 126
        fft_size = 256
        mels = 20
        high_hz = 3900.0
        [normalise]
        method = "standard"
        [training]
        epochs = 4
        learning_rate = 0.01
        """
    )
    done = CliRunner().invoke(
        app,
        ["train", "--config", str(tmp_path / "mine.toml"), "--board", "host", "--json",
         "--output", str(tmp_path / "runs"), "--build-dir", str(BUILD)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["accuracy_after"] > 0.9
    manifest = json.loads((Path(summary["run"]) / "manifest.json").read_text())
    assert manifest["preprocessing"]["audio"]["features"] == "log_mel"


class PortAudioError(Exception):
    """As sounddevice has it."""


class FakeStream:
    """Plays a ramp into the callback when it is started."""

    def __init__(self, **asked: Any) -> None:
        if asked["device"] == "nobody":
            raise PortAudioError("Invalid device")
        self.asked, self.closed = asked, False

    def start(self) -> None:
        for block in range(3):
            data = np.full((10, 1), block / 10, np.float32)
            self.asked["callback"](data, 10, None, None)
            data[:] = 99  # the library reuses its memory

    def close(self) -> None:
        self.closed = True


def test_a_microphone_gives_its_blocks_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(InputStream=FakeStream, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", stand_in)
    source = open_microphone("", None)
    assert (source.rate_hz, source.channels) == (16000.0, ("sound",))
    found = [source.read(0.0) for _ in range(4)]
    assert found[3] is None
    values = [chunk.values[0, 0] for chunk in found[:3] if chunk is not None]
    np.testing.assert_allclose(values, [0.0, 0.1, 0.2])
    assert open_microphone("0", 8000.0).rate_hz == 8000.0
    with pytest.raises(UserError, match="microphone nobody cannot be opened at 16000 Hz"):
        open_microphone("nobody", None)


def test_a_missing_portaudio_is_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match="libportaudio2"):
        open_microphone("", None)
