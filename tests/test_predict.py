"""Live prediction: windows, the rate, the channels, and what the device's answer becomes."""

import json
import struct
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.datasets.images import load_picture
from ondevice.errors import UserError
from ondevice.input_settings import ImageSettings
from ondevice.link.messages import StepResult
from ondevice.live.picture_size import picture_fit
from ondevice.live.predict_screen import (
    answer_record,
    answer_screen,
    answer_words,
    tally_record,
    tally_words,
)
from ondevice.live.predict_session import Answered, RateGuard, predict_stream
from ondevice.live.predictor import Prediction, Predictor, probabilities
from ondevice.live.recorded_set import RecordedSet, TakeData
from ondevice.live.source import Chunk, LiveSource
from ondevice.live.windows import Windows, channel_order
from ondevice.preprocessing import Preprocessing, cut_windows
from ondevice.terminal import text_console
from scripted_source import ScriptedSource, steady

WINDOW = 10


class LoudestChannel:
    """A device whose model gives each channel's mean over the window: [2, 10] -> 2."""

    def __init__(self) -> None:
        self._input = b""
        self._output = [0.0, 0.0]

    def write_input(self, data: bytes) -> None:
        self._input = data

    def write_label(self, data: bytes) -> None:
        assert data == bytes(4)

    def evaluate(self) -> StepResult:
        # The memory order is [height, width, channels].
        values = np.frombuffer(self._input, "<f4").reshape(WINDOW, 2)
        self._output = values.mean(axis=0).tolist()
        return StepResult(0.0, int(np.argmax(self._output)), False, 0)

    def read_output(self) -> bytes:
        return struct.pack("<2f", *self._output)


def manifest(loss: str = "cross_entropy") -> dict[str, Any]:
    return {
        "loss": loss,
        "input": {
            "dtype": "float32",
            "shape": [1, 1, WINDOW, 2],
            "axes": [0, None, 2, 1],
            "source_shape": [1, 2, WINDOW],
        },
        "label": {"kind": "class", "count": 2},
        "output": {"count": 2},
    }


PREPROCESSING = Preprocessing(
    channels=("ax", "ay"),
    rate_hz=50.0,
    window_samples=WINDOW,
    stride_samples=5,
    offset=(0.0, 1000.0),
    gain=(0.1, 0.1),
)


def answers(
    source: LiveSource,
    windows: Windows | None = None,
    once: bool = False,
    newest_only: bool = False,
    order: list[int] | None = None,
) -> list[Answered]:
    out: list[Answered] = []
    predictor = Predictor(LoudestChannel(), manifest(), PREPROCESSING, ("left", "right"))
    predict_stream(
        source,
        order or [0, 1],
        windows or Windows(WINDOW, WINDOW),
        predictor,
        RateGuard(50.0, source.rate_hz, "X"),
        out.append,
        lambda: False,
        newest_only,
        once,
    )
    return out


@given(
    pieces=st.lists(st.integers(0, 40), max_size=12),
    length=st.integers(1, 20),
    stride=st.integers(1, 30),
)
def test_a_stream_is_cut_as_a_recording_is(pieces: list[int], length: int, stride: int) -> None:
    values = np.arange(2 * sum(pieces), dtype=np.float32).reshape(-1, 2)
    windows = Windows(length, stride)
    ends = np.cumsum([0, *pieces])
    got = [w for a, b in pairwise(ends) for w in windows.push(values[a:b])]
    wanted = cut_windows(values, length, stride)
    assert len(got) == len(wanted)
    for window, expected in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(window, expected)


def test_each_window_is_normalised_and_answered_with_probabilities() -> None:
    given_values = np.zeros((20, 2), np.float32)
    given_values[:10, 0], given_values[:, 1] = 20, 1000  # normalised: 2 and 0, then 0 and 0
    got = answers(ScriptedSource([Chunk(given_values, 1.0)], rate_hz=50.0))
    assert [answer.prediction.name for answer in got] == ["left", "left"]
    share = np.exp(2) / (np.exp(2) + 1)
    assert got[0].prediction.outputs == pytest.approx((share, 1 - share))
    assert got[1].prediction.outputs == pytest.approx((0.5, 0.5))
    assert answer_words(got[0]) == "left 88 %"


def test_channels_are_taken_by_name_in_the_models_order() -> None:
    assert channel_order(("t", "ay", "ax"), ("ax", "ay"), "X") == ([2, 1], "")
    assert channel_order(("a", "b"), (), "X") == ([0, 1], "")
    order, note = channel_order(("channel_1", "channel_2"), ("ax", "ay"), "X")
    assert (order, note) == (
        [0, 1],
        "X does not name its channels; they are taken as ax, ay",
    )
    with pytest.raises(UserError, match="the model was trained on ax, az: az is missing"):
        channel_order(("ax", "ay"), ("ax", "az"), "X")
    values = np.tile(np.array([[1000, 20]], np.float32), (10, 1))
    (swapped,) = answers(ScriptedSource([Chunk(values, 1.0)], rate_hz=50.0), order=[1, 0])
    assert swapped.prediction.name == "left"


def test_a_sensor_of_another_rate_is_refused_once_its_rate_is_known() -> None:
    with pytest.raises(UserError, match=r"X gives 54\.\d+ ± .* trained on 50 Hz; allowed: .* 5 %"):
        answers(ScriptedSource(steady(54, 10)))
    assert len(answers(ScriptedSource(steady(52, 10)))) == 52
    with pytest.raises(UserError, match="X gives 100 Hz"):
        RateGuard(50.0, 100.0, "X")
    said: list[str] = []
    RateGuard(50.0, 100.0, "X", said.append)
    assert said == [
        "warning: X gives 100 Hz and the model was trained on 50 Hz; allowed: within 5 %"
    ]
    RateGuard(None, 100.0, "X")


def test_a_slow_device_sees_the_newest_window_and_the_others_are_counted() -> None:
    piled_up = [Chunk(np.full((10, 2), value, np.float32), value / 5) for value in (1, 2)]
    chunks = [Chunk(np.full((10, 2), value, np.float32), value / 5) for value in range(3, 7)]
    source = ScriptedSource([*piled_up, None, *chunks, None], rate_hz=50.0)
    got = answers(source, newest_only=True)
    # What piled up while the board started is no window that it was too slow for.
    assert [(answer.window, answer.skipped, answer.sample) for answer in got] == [(1, 3, 60)]
    assert got[0].recent[0, 0] == 6


@pytest.mark.parametrize("colour", ["rgb", "grey"])
@pytest.mark.parametrize("crop", ["centre", "pad", "stretch"])
def test_a_cameras_picture_becomes_what_its_recorded_file_is_read_as(
    tmp_path: Path, colour: str, crop: str
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(
        np.float32
    ) / np.float32(255)
    data_set = RecordedSet(tmp_path, "picture", ("red", "green", "blue"), "camera:0")
    path = data_set.add("cat", TakeData(picture, None, datetime(2026, 11, 26)), None)
    settings = ImageSettings(crop=crop, colour=colour)
    read = load_picture(path, settings, (16, 12))
    for layout, shape in (("channels_first", (3, 16, 12)), ("channels_last", (16, 12, 3))):
        np.testing.assert_array_equal(picture_fit(settings, shape, layout)(picture), read)


def test_once_ends_after_one_window() -> None:
    source = ScriptedSource(steady(50, 10))
    assert len(answers(source, once=True)) == 1
    assert source.now_s == pytest.approx(10 / 50)


def test_what_does_not_fit_the_model_is_refused() -> None:
    chunks = [Chunk(np.zeros((7, 2), np.float32), 1.0)]
    with pytest.raises(UserError, match=r"becomes \[2, 7\] and the model takes \[2, 10\]"):
        answers(ScriptedSource(chunks, rate_hz=50.0), Windows(7, 7))


@given(st.lists(st.floats(-700, 700), min_size=2, max_size=9))
def test_probabilities_are_those_of_the_loss(outputs: list[float]) -> None:
    shares = probabilities(np.array(outputs), "cross_entropy")
    assert shares.sum() == pytest.approx(1)
    assert shares[np.argmax(outputs)] == shares.max()
    each = probabilities(np.array(outputs), "binary_cross_entropy")
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-np.array(outputs)))
    np.testing.assert_allclose(each, expected, atol=1e-12)


def test_the_screen_has_a_bar_a_class_and_the_lines_are_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = Answered(
        3, 60, Prediction((0.75, 0.25), 0, "left"), 1, np.zeros((WINDOW, 2), np.float32)
    )
    screen = answer_screen(answer, ("left", "right"), ("ax", "ay"), "serial:X")
    text_console(False, 100).print(screen)
    text = capsys.readouterr().out
    assert "serial:X  window 3, 1 skipped" in text
    assert f"left   {'█' * 30} " in text
    assert "25.0 %" in text
    record = json.loads(json.dumps(answer_record(answer)))
    assert (record["class"], record["probabilities"]) == ("left", [0.75, 0.25])
    number = Answered(1, 10, Prediction((1.5,), None, ""), 0, answer.recent)
    assert (answer_words(number), answer_record(number)["outputs"]) == ("1.5", [1.5])


def test_the_summary_counts_classes() -> None:
    predictor = Predictor(LoudestChannel(), manifest(), PREPROCESSING, ("left", "right"))
    source = ScriptedSource(steady(50, 1), rate_hz=50.0)
    tally = predict_stream(
        source,
        [0, 1],
        Windows(WINDOW, WINDOW),
        predictor,
        RateGuard(50.0, 50.0, "X"),
        lambda answer: None,
        lambda: False,
        False,
        False,
    )
    assert tally_words(tally) == "5 windows: left 5"
    assert tally_record(tally) == {
        "event": "end",
        "windows": 5,
        "skipped": 0,
        "samples": 50,
        "classes": {"left": 5},
    }
