"""Recording: keys make takes, takes make a data set that can be trained on."""

import contextlib
import json
import sys
import tempfile
import tomllib
import wave
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fake_arduino import FakeArduino
from ondevice import cli
from ondevice.errors import UserError
from ondevice.live import keys
from ondevice.live import open as open_module
from ondevice.live.background import BackgroundSource
from ondevice.live.open import KINDS, Wishes, open_live
from ondevice.live.record_screen import record_screen, sparkline
from ondevice.live.record_session import RecordSession, View
from ondevice.live.recorded_set import RecordedSet, SetRate, TakeData, check_labels
from ondevice.live.recorder import Recorder
from ondevice.live.replay import open_replay
from ondevice.live.source import Chunk, EndOfSourceError, LiveSource
from ondevice.live.text_source import TextSource
from ondevice.terminal import text_console
from scripted_source import ScriptedSource, steady

BEGUN = datetime(2026, 11, 26, 10, 15, 0)
LABELS = ("idle", "walking")


def run(
    folder: Path,
    source: ScriptedSource,
    keys: dict[float, str],
    hold_out: int | None = None,
    duration_s: float | None = None,
    fixed: SetRate | None = None,
) -> tuple[Recorder, list[View]]:
    """A session in which keys are pressed at times of the virtual clock."""
    data_set = RecordedSet(folder, "series", source.channels, "serial:X", hold_out)
    recorder = Recorder(data_set, "series", fixed, lambda: BEGUN)
    session = RecordSession(source, recorder, LABELS, duration_s, lambda: False, source.clock)
    waiting = sorted(keys.items())

    def pressed() -> str:
        out = ""
        while waiting and waiting[0][0] <= source.now_s + 1e-9:
            out += waiting.pop(0)[1]
        return out

    views: list[View] = []
    session.run(pressed, views.append)
    return recorder, views


def all_of(source: LiveSource) -> list[NDArray[np.float32]]:
    """Values of all chunks until the source's end."""
    out = []
    with contextlib.suppress(EndOfSourceError):
        while (chunk := source.read(5)) is not None:
            out.append(chunk.values)
    return out


def rows_of(path: Path) -> list[list[str]]:
    return [line.split(",") for line in path.read_text().splitlines()]


def facts_of(folder: Path) -> dict[str, object]:
    return tomllib.loads((folder / "dataset.toml").read_text())


def test_keys_begin_and_end_takes_and_the_rate_is_measured(tmp_path: Path) -> None:
    source = ScriptedSource(steady(50, 10))
    recorder, views = run(tmp_path / "set", source, {2: "1", 3: " ", 4: "2", 5: "1", 6: "1"})
    idle, walking = tmp_path / "set" / "idle", tmp_path / "set" / "walking"
    assert sorted(path.name for path in idle.iterdir()) == [
        "20261126-101500-2.csv",
        "20261126-101500.csv",
    ]
    table = rows_of(idle / "20261126-101500.csv")
    assert table[0] == ["ax", "ay"]
    # Sample 99 arrived with the key at 2 s; those of the following second are in the take.
    assert [row[0] for row in table[1:]] == [f"{index}.0" for index in range(100, 150)]
    assert table[1][1] == "1100.0"
    assert len(rows_of(next(walking.iterdir()))) == 1 + 50
    assert {take.label: round(take.seconds, 3) for take in recorder.saved} == {
        "idle": 1.0,
        "walking": 1.0,
    }
    facts = facts_of(tmp_path / "set")
    assert facts["rate_hz"] == pytest.approx(50, rel=1e-6)
    assert (facts["channels"], facts["source"]) == (["ax", "ay"], "serial:X")
    assert facts["rate_from"] == "times of arrival"
    assert "50" in views[-1].rate
    assert [(label, takes) for label, takes, _ in views[-1].counts] == [("idle", 2), ("walking", 1)]
    assert views[-1].counts[0][2] == pytest.approx(2)


def test_u_throws_the_newest_take_away_and_then_the_one_before(tmp_path: Path) -> None:
    source = ScriptedSource(steady(50, 10))
    recorder, _ = run(tmp_path, source, {2: "1", 3: " ", 4: "2", 5: "u", 6: "u", 7: "u"})
    assert recorder.saved == []
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.toml"]


def test_q_ends_and_keeps_the_take_that_is_being_recorded(tmp_path: Path) -> None:
    source = ScriptedSource(steady(50, 10))
    recorder, _ = run(tmp_path, source, {2: "2", 4: "q"})
    assert source.now_s == 4
    assert [(take.label, take.samples) for take in recorder.saved] == [("walking", 100)]


def test_a_take_before_the_rate_is_known_is_written_when_it_is(tmp_path: Path) -> None:
    source = ScriptedSource(steady(50, 10))
    recorder, _ = run(tmp_path, source, {0.1: "1", 0.3: " ", 0.4: "q"})
    assert [take.samples for take in recorder.saved] == [10]
    assert 1 <= source.now_s < 1.2


def test_a_rate_that_cannot_be_measured_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 take not saved: the sample rate is not known"):
        run(tmp_path / "set", ScriptedSource(steady(50, 0.5)), {0.1: "1"})
    assert not (tmp_path / "set").exists()
    said = SetRate(50.0, 0.0, "the command line")
    recorder, _ = run(tmp_path / "set", ScriptedSource(steady(50, 0.5)), {0.1: "1"}, fixed=said)
    assert len(recorder.saved) == 1
    assert facts_of(tmp_path / "set")["rate_from"] == "the command line"


def test_a_duration_ends_takes(tmp_path: Path) -> None:
    recorder, _ = run(tmp_path, ScriptedSource(steady(50, 10)), {2: "1", 6: "2"}, duration_s=1.5)
    assert [take.samples for take in recorder.saved] == [75, 75]


def test_held_out_takes_go_to_test(tmp_path: Path) -> None:
    keys = {float(second): "1" for second in range(2, 10)}  # begins, ends, begins, ...
    run(tmp_path, ScriptedSource(steady(50, 10)), keys, hold_out=3)
    assert len(list((tmp_path / "train" / "idle").iterdir())) == 3
    assert len(list((tmp_path / "test" / "idle").iterdir())) == 1
    with pytest.raises(UserError, match="has folders train and test"):
        RecordedSet(tmp_path, "series", ("ax", "ay"), "serial:X")


def test_a_set_is_added_to_only_by_the_same_channels_and_rate(tmp_path: Path) -> None:
    run(tmp_path, ScriptedSource(steady(50, 5)), {2: "1", 3: "1"})
    before = (tmp_path / "dataset.toml").read_bytes()
    run(tmp_path, ScriptedSource(steady(50.9, 5)), {2: "1", 3: "1"})
    assert (tmp_path / "dataset.toml").read_bytes() == before  # of the first session
    assert len(list((tmp_path / "idle").iterdir())) == 2
    with pytest.raises(UserError, match=r"was recorded at 50 Hz and serial:X gives 51\.5"):
        run(tmp_path, ScriptedSource(steady(51.5, 5)), {2: "1", 3: "1"})
    with pytest.raises(UserError, match="was recorded with channels ax, ay and serial:X gives az"):
        RecordedSet(tmp_path, "series", ("az",), "serial:X")
    assert len(list((tmp_path / "idle").iterdir())) == 2


def test_the_devices_clock_becomes_the_column_t_s(tmp_path: Path) -> None:
    run(tmp_path, ScriptedSource(steady(50, 5, device_clock=True)), {2: "1", 3: "1"})
    table = rows_of(next((tmp_path / "idle").iterdir()))
    assert table[0] == ["t_s", "ax", "ay"]
    assert table[1][:2] == ["0.000000", "100.0"]
    assert table[-1][0] == "0.980000"
    assert facts_of(tmp_path)["rate_from"] == "the device's clock"


def test_lost_samples_of_a_take_are_told(tmp_path: Path) -> None:
    chunks = [chunk for index, chunk in enumerate(steady(50, 10)) if not 250 <= index < 275]
    recorder, views = run(tmp_path, ScriptedSource(chunks), {2: "1", 9: "1"})
    assert recorder.saved[0].warnings == ("about 25 samples were lost (7.2 %)",)
    assert "about 25 samples were lost" in views[-1].rate


def test_one_take_without_keys_leaves_out_what_had_piled_up(tmp_path: Path) -> None:
    backlog = Chunk(np.full((300, 2), 7, np.float32), 0.0)
    source = ScriptedSource([None, backlog, *steady(50, 10)])
    recorder = Recorder(RecordedSet(tmp_path, "series", source.channels, "stdin"), "series")
    session = RecordSession(source, recorder, ("idle",), 2.0, lambda: False, source.clock)
    session.run_one("idle", drop_backlog=True)
    (take,) = recorder.saved
    assert take.samples == 100
    assert rows_of(take.path)[1] == ["0.0", "1000.0"]


def test_what_was_recorded_is_kept_when_the_device_goes_away(tmp_path: Path) -> None:
    class Unplugged(ScriptedSource):
        def read(self, timeout_s: float) -> Chunk | None:
            try:
                return super().read(timeout_s)
            except EndOfSourceError:
                raise UserError("X went away in the middle") from None

    with pytest.raises(UserError, match="went away"):
        run(tmp_path, Unplugged(steady(50, 4)), {1: "1"})
    assert len(rows_of(next((tmp_path / "idle").iterdir()))) == 1 + 150


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_take_that_is_read_again_holds_the_same_numbers(values: list[float]) -> None:
    with tempfile.TemporaryDirectory() as name:
        data_set = RecordedSet(Path(name) / "set", "series", ("a b", "it's"), "stdin")
        array = np.array([values, values[::-1]], np.float32).T
        rate = SetRate(50.0, 0.1, "times of arrival")
        path = data_set.add("idle", TakeData(array, None, BEGUN), rate)
        played = open_replay(path, fast=True)
        assert played.channels == ("a b", "it's")
        assert played.rate_hz == 50.0
        np.testing.assert_array_equal(np.concatenate(all_of(played)), array)


def test_sound_becomes_the_same_integers_in_a_wav_file(tmp_path: Path) -> None:
    whole = np.array([[-32768], [0], [1], [32767]], np.int16)
    data_set = RecordedSet(tmp_path, "sound", ("sound",), "microphone")
    take = TakeData((whole / np.float32(32768)).astype(np.float32), None, BEGUN)
    path = data_set.add("yes", take, SetRate(16000.0, 0.0, "the source itself"))
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        assert np.frombuffer(file.readframes(9), "<i2").tolist() == whole[:, 0].tolist()
    chunk = open_replay(path, fast=True).read(0)
    assert chunk is not None
    np.testing.assert_array_equal(chunk.values, take.values)


def test_a_key_saves_a_picture(tmp_path: Path) -> None:
    picture = np.zeros((1, 4, 6, 3), np.float32)
    picture[0, 1, 2] = (1.0, 0.5, 0.25)
    source = ScriptedSource([Chunk(picture, 0.1), Chunk(picture, 0.2)], ("red", "green", "blue"))
    recorder = Recorder(RecordedSet(tmp_path, "picture", source.channels, "camera:0"), "picture")
    session = RecordSession(source, recorder, LABELS, None, lambda: False, source.clock)
    keys = iter(["12", "2"])
    session.run(lambda: next(keys), lambda view: None)
    assert [take.label for take in recorder.saved] == ["idle", "walking", "walking"]
    image = Image.open(recorder.saved[0].path)
    assert (image.size, image.getpixel((2, 1))) == ((6, 4), (255, 128, 64))
    assert "rate_hz" not in facts_of(tmp_path)


def test_a_video_file_stands_in_for_a_camera(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 16))
    for _ in range(3):
        writer.write(np.full((16, 32, 3), (0, 0, 255), np.uint8))  # blue, green, red
    writer.release()
    source = open_live(f"camera:{path}")
    pictures = all_of(source)
    source.close()
    assert [picture.shape for picture in pictures] == [(1, 16, 32, 3)] * 3
    assert pictures[0].mean(axis=(0, 1, 2)) == pytest.approx([1, 0, 0], abs=0.05)
    with pytest.raises(UserError, match="no such video file"):
        open_live("camera:no.avi")
    with pytest.raises(UserError, match="there is no such camera"):
        open_live("camera:99")


def test_a_file_is_played_at_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "walk.csv"
    path.write_text("t_s,ax\n0,1\n0.1,2\n0.2,3\n0.3,4\n")
    now, waits = [0.0], []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    source = open_replay(path, clock=lambda: now[0], wait=wait)
    assert source.rate_hz == pytest.approx(10)
    assert source.read(0.05) is None
    got = [source.read(1) for _ in range(4)]
    assert [chunk.values.tolist() for chunk in got if chunk] == [[[1.0]], [[2.0]], [[3.0]], [[4.0]]]
    assert sum(waits) == pytest.approx(0.4)
    with pytest.raises(EndOfSourceError):
        source.read(1)
    path.write_text("ax\n1\n2\n")
    with pytest.raises(UserError, match="at which rate"):
        open_replay(path)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bluetooth:1", r"source 'bluetooth:1': allowed: serial:PORT\[@BAUD\]"),
        ("serial", "allowed: serial:PORT"),
        ("/dev/ttyUSB0", "did you mean serial:/dev/ttyUSB0?"),
        ("serial:/dev/nothing@12", "baud rate '12'"),
        ("serial:@9600", "names no port"),
        ("serial:/dev/nothing", "there is no serial port /dev/nothing"),
        ("file:nothing.csv", "file:nothing.csv: No such file"),
    ],
)
def test_a_source_that_is_not_there_is_one_clear_line(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        open_live(spec, Wishes())


def test_every_kind_is_named_as_it_is_written() -> None:
    assert all(kind.form.startswith(name) for name, kind in KINDS.items())


class Pieces:
    """A stream of text that ends."""

    name = "pipe"

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.closed = False

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        if not self._pieces:
            raise EndOfSourceError
        return self._pieces.pop(0)

    def close(self) -> None:
        self.closed = True


def test_a_stream_of_text_gives_values_and_the_devices_time() -> None:
    stream = Pieces(b"millis,ax\n10,1\n", b"", b"?\n20,2\n30,", b"3")
    source = TextSource(stream)
    assert source.channels == ("ax",)
    chunks = [source.read(0), source.read(0), source.read(0), source.read(0), source.read(0)]
    assert [chunk.values.tolist() if chunk else None for chunk in chunks] == [
        [[1.0]],
        None,
        [[2.0]],
        None,
        [[3.0]],
    ]
    times = [
        chunk.device_t_s.tolist() for chunk in chunks if chunk and chunk.device_t_s is not None
    ]
    assert times == [[0.01], [0.02], [0.03]]
    assert source.notes == ("1 line was no row of numbers, the last: '?'",)


def test_a_stream_without_numbers_says_what_came_instead() -> None:
    stream = Pieces(b"hello\nworld\n!!\n")
    with pytest.raises(UserError, match=r"no line was a row of numbers .3 were something else"):
        TextSource(stream)
    assert stream.closed
    with pytest.raises(UserError, match="pipe: ended without a line"):
        TextSource(Pieces())
    with pytest.raises(UserError, match="the only column, 't_s', is time"):
        TextSource(Pieces(b"t_s\n1\n"))


def test_a_background_source_passes_on_chunks_the_end_and_errors() -> None:
    inner = ScriptedSource(steady(50, 0.1))
    source = BackgroundSource(inner)
    assert [values[0, 0] for values in all_of(source)] == [0, 1, 2, 3, 4]
    with pytest.raises(EndOfSourceError):
        source.read(0)
    source.close()
    assert inner.closed


def test_a_serial_port_is_read_by_one_program_and_its_end_is_told() -> None:
    with FakeArduino() as arduino:
        source = open_live(f"serial:{arduino.port}@9600")
        assert source.channels == ("ax", "ay")
        with pytest.raises(UserError, match=f"{arduino.port} is in use by another program"):
            open_live(f"serial:{arduino.port}")
    with pytest.raises(UserError, match=f"{arduino.port} went away in the middle"):
        all_of(source)  # first what had come before
    source.close()


@pytest.mark.parametrize("label", ["", ".hidden", "a/b", "train", "-x", " x", "x\n"])
def test_a_label_is_the_name_of_a_folder(label: str) -> None:
    with pytest.raises(UserError, match="allowed: names of folders"):
        check_labels((label,))


def test_the_screen_shows_channels_counts_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    recent = np.stack([np.linspace(0, 1, 80), np.full(80, 2.5)], axis=1).astype(np.float32)
    view = View(
        ("ax", "ay"), recent, 80, "50 Hz", "walking", 3.0, (("idle", 2, 9.0), ("walking", 0, 0)), ()
    )
    text_console(False, 100).print(record_screen(view, "serial:X", "series"))
    text = capsys.readouterr().out
    assert "serial:X  50 Hz  80 samples" in text
    assert "● recording 3.0 s" in text
    assert "1-2 begin/end a take" in text
    assert sparkline(recent[:, 0]) in text


def test_a_sparkline_rises_with_the_values() -> None:
    assert sparkline(np.arange(8, dtype=np.float32)) == "▁▂▃▄▅▆▇█"
    assert sparkline(np.ones(3, np.float32)) == "▁▁▁"
    assert sparkline(np.empty(0, np.float32)) == ""


def record(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Runs `ondevice record WORDS` in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["ondevice", "record", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_records_a_file_and_says_so_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.csv").write_text("ax,ay\n" + "1,2\n" * 200)
    words = ("file:old.csv", "--fast", "-o", "set", "--label", "walking", "--json")
    assert record(monkeypatch, *words, "--rate-hz", "50") == 0
    take, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert (take["event"], take["label"], take["samples"]) == ("take", "walking", 200)
    assert len(rows_of(tmp_path / take["file"])) == 201
    assert (end["event"], end["takes"], end["rate_hz"]) == ("end", 1, 50.0)
    assert record(monkeypatch, *words, "--rate-hz", "60") == 1
    assert "set: was recorded at 50 Hz and file:old.csv gives 60 Hz" in capsys.readouterr().err


def test_a_wav_file_that_is_recorded_stays_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sound = RecordedSet(tmp_path / "old", "sound", ("sound",), "microphone")
    values = np.linspace(-1, 0.9, 100, dtype=np.float32)[:, np.newaxis]
    path = sound.add("yes", TakeData(values, None, BEGUN), SetRate(8000.0, 0.0, "the source"))
    assert record(monkeypatch, f"file:{path}", "--fast", "-o", "new", "--label", "yes") == 0
    (copy,) = (tmp_path / "new" / "yes").iterdir()
    assert copy.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--label", "a", "--labels", "a,b"), 2, "exclude each other"),
        ((), 2, "give --labels walking,idle"),
        (("--labels", "a,b,c,d,e,f,g,h,i,j"), 1, "10 labels; allowed: 9, one a key"),
        (("--labels", "a,a"), 1, "labels a,a: one is there twice"),
        (("--label", "test"), 1, "label 'test': allowed: names of folders"),
        (("--labels", "a,b"), 1, "keys need a terminal and there is none"),
    ],
)
def test_what_cannot_be_recorded_is_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.csv").write_text("ax,ay\n" + "1,2\n" * 200)
    options = ("--fast", "--rate-hz", "50", "-o", "set")

    monkeypatch.setattr(keys, "TERMINAL", str(tmp_path / "no terminal"))
    assert record(monkeypatch, "file:old.csv", *options, *words) == code
    assert said in " ".join(capsys.readouterr().err.replace("│", "").split())
    assert not (tmp_path / "set").exists()


def test_a_kind_whose_module_is_missing_says_so() -> None:
    missing = open_module._of_module("ondevice.live.no_such_module", "open_it")
    with pytest.raises(UserError, match=r"ondevice\.live\.no_such_module is not part of this"):
        missing("", Wishes())
