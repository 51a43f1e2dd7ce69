"""Log-mel and MFCC in integers: C equals NumPy bit for bit, both are close to real numbers."""

import ctypes
import subprocess
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from coverage_flags import coverage_flags
from native_model import CFLAGS, ROOT, WARNINGS
from ondevice.boards import load_board
from ondevice.errors import UserError
from ondevice.features.compute import compute, feature_shape
from ondevice.features.integer_log_mel import fft, integer_features, log2_q9
from ondevice.features.tables import c_tables, feature_tables
from ondevice.input_settings import AudioSettings
from ondevice.measure.bench import Bench
from ondevice.preprocessing import Preprocessing, from_manifest, to_manifest

LOG_MEL = AudioSettings(features="log_mel")
MFCC = AudioSettings(features="mfcc", coefficients=13)
SMALL = AudioSettings(
    rate_hz=8000, features="log_mel", frame_samples=100, hop_samples=37, fft_size=128, mels=12,
    low_hz=60.0, high_hz=3900.0,
)  # fmt: skip
LARGE = replace(LOG_MEL, frame_samples=4000, hop_samples=4000, fft_size=4096, mels=128)
FEW = replace(SMALL, frame_samples=16, hop_samples=16, fft_size=16, mels=3)
ALL = {"log_mel": LOG_MEL, "mfcc": MFCC, "small": SMALL, "large": LARGE, "few": FEW}
SOURCES = [ROOT / "runtime/src" / name for name in ("audio_features.c", "fft.c")]
every_setting = pytest.mark.parametrize("audio", ALL.values(), ids=ALL)


@cache
def library(audio: AudioSettings) -> Any:
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="audio-features-"))
    (folder / "tables.c").write_text(c_tables(audio))
    flags = [*CFLAGS, *WARNINGS, *coverage_flags(), f"-I{ROOT / 'runtime/include'}"]
    sources = [folder / "tables.c", *SOURCES]
    subprocess.run(["gcc", *flags, "-shared", "-fPIC", "-o", folder / "f.so", *sources], check=True)
    return ctypes.CDLL(str(folder / "f.so"))


def in_c(audio: AudioSettings, samples: NDArray[np.int16]) -> NDArray[np.int16]:
    c = library(audio)
    features = ctypes.byref(ctypes.c_char.in_dll(c, "audio_features"))
    frames, bands = feature_shape(audio, len(samples))
    assert c.od_audio_frames(features, len(samples)) == frames
    out = np.full((frames + 1, bands), 12345, np.int16)
    scratch = np.empty(c.od_audio_scratch_bytes(features) // 8 + 1, np.uint64)
    found = c.od_audio_features(
        features, samples.ctypes.data_as(ctypes.c_void_p), len(samples),
        scratch.ctypes.data_as(ctypes.c_void_p), scratch.nbytes,
        out.ctypes.data_as(ctypes.c_void_p),
    )  # fmt: skip
    assert found == frames
    assert (out[-1] == 12345).all()  # nothing is written behind its end
    return np.asarray(out[:-1], np.int16)


def sound(kind: str, count: int, seed: int = 0) -> NDArray[np.int16]:
    generator, t = np.random.default_rng(seed), np.arange(count)
    values = {
        "silence": 0 * t,
        "constant": 0 * t + 32767,
        "square": np.where(t // 8 % 2, 32767, -32768),
        "impulse": np.where(t == 7, -32768, 0),
        "tone": 20000 * np.sin(2 * np.pi * 0.05 * t),
        "quiet": generator.normal(0, 3, count),
        "noise": generator.normal(0, 8000, count),
        "loud": generator.choice([-32768, 32767], count),
    }[kind]
    return np.asarray(np.clip(values, -32768, 32767), np.int16)


@every_setting
@pytest.mark.parametrize(
    "kind", ["silence", "constant", "square", "impulse", "tone", "quiet", "noise", "loud"]
)
def test_c_gives_the_integers_of_numpy(audio: AudioSettings, kind: str) -> None:
    samples = sound(kind, audio.frame_samples + 3 * audio.hop_samples + 5)
    expected = integer_features(audio, feature_tables(audio), samples[None])[0]
    np.testing.assert_array_equal(in_c(audio, samples), expected)


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=200, max_size=800))
def test_c_gives_the_integers_of_numpy_on_any_bytes(content: bytes) -> None:
    samples = np.frombuffer(content[: len(content) // 2 * 2], "<i2")
    expected = integer_features(SMALL, feature_tables(SMALL), samples[None])[0]
    np.testing.assert_array_equal(in_c(SMALL, samples), expected)


def reference(audio: AudioSettings, samples: NDArray[np.int16]) -> NDArray[np.float64]:
    """log2 of the mel bands' power in float64, straight from the definition."""
    starts = range(0, len(samples) - audio.frame_samples + 1, audio.hop_samples)
    n = np.arange(audio.frame_samples)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / audio.frame_samples)
    frames = np.stack([samples[s : s + audio.frame_samples] * window for s in starts])
    power = abs(np.fft.rfft(frames, audio.fft_size, axis=1)) ** 2
    hz = np.fft.rfftfreq(audio.fft_size, 1 / audio.rate_hz)
    mel = 2595 * np.log10(1 + hz / 700)
    edges = 2595 * np.log10(1 + np.array([audio.low_hz, audio.high_hz]) / 700)
    corners = np.linspace(edges[0], edges[1], audio.mels + 2)
    bands = np.stack(
        [np.interp(mel, corners[m : m + 3], [0, 1, 0], left=0, right=0) for m in range(audio.mels)]
    )
    # Twice the spectrum, weights of 4096: the integers' own unit.
    scale = 4 * 4096 / 2.0 ** feature_tables(audio).power_shift
    return np.asarray(np.log2(np.maximum(power @ bands.T * scale, 1)))


@pytest.mark.parametrize("kind", ["noise", "loud", "tone"])
@pytest.mark.parametrize("audio", [LOG_MEL, SMALL, LARGE], ids=["log_mel", "small", "large"])
def test_log_mel_is_close_to_real_numbers(audio: AudioSettings, kind: str) -> None:
    """Within 0.02 in log2 (0.06 dB) of bands that are no more than 60 dB below the loudest."""
    samples = sound(kind, audio.frame_samples + 4 * audio.hop_samples)
    found = integer_features(audio, feature_tables(audio), samples[None])[0] / 512
    expected = reference(audio, samples)
    loud = expected > expected.max() - 20
    assert loud.any()
    assert abs(found - expected)[loud].max() < 0.02


def test_mfcc_is_the_cosine_transform_of_log_mel() -> None:
    from scipy.fft import dct

    samples = sound("noise", MFCC.frame_samples + 4 * MFCC.hop_samples)
    logs = reference(MFCC, samples)
    expected = dct(logs, type=2, norm="ortho", axis=1)[:, : MFCC.coefficients]
    found = integer_features(MFCC, feature_tables(MFCC), samples[None])[0] / 32
    assert abs(found - expected).max() < 0.06  # half a step of 1/32, and the bands' own error


@pytest.mark.parametrize("size", [2, 8, 64, 2048])
def test_the_transform_is_that_of_numpy(size: int) -> None:
    generator = np.random.default_rng(size)
    re, im = generator.integers(-32768, 32768, (2, 3, size))
    angle = 2 * np.pi * np.arange(size) / size
    turns = np.rint(np.stack([np.cos(angle), -np.sin(angle)], 1) * 2**30).astype(np.int32)
    found_re, found_im = fft(re, im, turns, 1)
    expected = np.fft.fft(re + 1j * im, axis=1)
    # Each stage rounds once; what it leaves grows as the values of noise do.
    assert abs(found_re + 1j * found_im - expected).max() < np.sqrt(size) + 2


@given(st.integers(1, 2**64 - 1))
def test_the_logarithm_is_close_to_that_of_real_numbers(value: int) -> None:
    table = feature_tables(LOG_MEL).log_table
    found = log2_q9(np.array([value], np.uint64), table)[0]
    assert abs(found / 512 - np.log2(float(value))) < 0.0015
    function = library(LOG_MEL).od_log2_q9
    function.argtypes = [ctypes.c_uint64, ctypes.c_void_p]
    assert function(value, table.ctypes.data) == found


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0"])
@pytest.mark.parametrize("audio", [LOG_MEL, MFCC], ids=["log_mel", "mfcc"])
def test_a_cortex_m_gives_the_same_integers(core: str, audio: AudioSettings) -> None:
    # An M4 runs the instructions of an M0, too.
    fpu = load_board("qemu_f405").fpu if core == "cortex-m4" else ""
    board = replace(load_board("qemu_f405"), cpu=core, fpu=fpu)
    samples = sound("noise", audio.frame_samples + audio.hop_samples)
    expected = in_c(audio, samples)
    with Bench(board) as bench:
        found = bench.measure_source(measured_source(audio, samples, expected.size), bytes(4))
    empty_scales = b"\0" * 0
    assert found.checksum == zlib.crc32(empty_scales, zlib.crc32(expected.astype("<i2").tobytes()))
    assert found.count > 0


def measured_source(audio: AudioSettings, samples: NDArray[np.int16], values: int) -> str:
    """A program of firmware/measure that computes the features into what is checked."""
    code = "\n".join(path.read_text() for path in SOURCES)
    numbers = ", ".join(map(str, samples.tolist()))
    words = -(-values // 2)
    assert values % 2 == 0
    return f"""#include "measured.h"
{c_tables(audio)}
{code}
static const int16_t sound[{len(samples)}] = {{{numbers}}};
static uint64_t scratch[1000];
uint32_t od_arena[{words}];
const uint32_t od_arena_first[{words}] = {{0}}, od_arena_bytes = 4 * {words}, od_scale_count = 0;
od_grad_scale_t od_scales[1];
const od_grad_scale_t od_scales_first[1] = {{{{0}}}};
const float od_measured_rate = 0.0f;
void od_measured(float rate) {{
    (void)rate;
    od_audio_features(&audio_features, sound, {len(samples)}, scratch, sizeof scratch,
                      (int16_t *)od_arena);
}}
"""


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "size": ({"fft_size": 500}, "a power of two"),
    "frame": ({"frame_samples": 600}, "longer than audio.fft_size"),
    "nyquist": ({"high_hz": 8000.0}, "below half of rate_hz"),
    "order": ({"low_hz": 7700.0}, "low_hz below"),
    "coefficients": ({"features": "mfcc", "coefficients": 41}, "at most audio.mels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_contradict_each_other_are_refused(name: str) -> None:
    changes, words = WRONG[name]
    with pytest.raises(UserError, match=words):
        compute(replace(LOG_MEL, **changes), np.zeros((1, 16000, 1), np.float32))


def test_a_window_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(UserError, match=r"window\.samples = 400 is shorter"):
        compute(LOG_MEL, np.zeros((1, 400, 1), np.float32))
    with pytest.raises(UserError, match="one channel; there are 2"):
        compute(LOG_MEL, np.zeros((1, 1000, 2), np.float32))


def test_preprocessing_computes_the_features_of_a_window_and_keeps_their_settings() -> None:
    how = Preprocessing(("sound",), 16000.0, 16000, 8000, audio=MFCC)
    samples = sound("tone", 16000)
    found = how.sample((samples / 32768).astype(np.float32)[:, None])
    assert found.shape == (1, *feature_shape(MFCC, 16000))  # as a picture of one colour
    np.testing.assert_array_equal(found[0] * 32, in_c(MFCC, samples))
    assert from_manifest(to_manifest(how)) == how


def test_scratch_memory_that_is_too_small_is_refused() -> None:
    c = library(LOG_MEL)
    features = ctypes.byref(ctypes.c_char.in_dll(c, "audio_features"))
    assert c.od_audio_features(features, None, 0, None, 100, None) < 0
    assert c.od_audio_frames(features, 479) == 0
