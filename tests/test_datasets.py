"""Files and folders of data: what is read, cut, held out and normalised."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from ondevice.config import Config, load_config
from ondevice.data import DataError, Dataset
from ondevice.datasets.formats import load_samples
from ondevice.datasets.hold_out import split_recordings, split_samples
from ondevice.datasets.images import augmented
from ondevice.input_settings import ImageSettings
from ondevice.preprocessing import Preprocessing, cut_windows, from_manifest, to_manifest
from ondevice.recordings import Recording

LENGTH = 240
WINDOW = 16


def config(**sections: Mapping[str, object]) -> Config:
    window = {"samples": WINDOW, **sections.pop("window", {})}
    return load_config(None, {"window": window, **sections})


def motion(seed: int, length: int = LENGTH) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(length, 3)).round(4)


def write_csv(
    path: Path,
    values: NDArray[np.float64],
    delimiter: str = ",",
    header: Sequence[str] | None = ("ax", "ay", "az"),
    end: str = "\n",
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [delimiter.join(map(str, row)) for row in values]
    lines = [delimiter.join(header), *rows] if header else rows
    path.write_bytes((end.join(lines) + end).encode())
    return path


def gestures(folder: Path, takes: int = 2, **how: object) -> Path:
    for index, label in enumerate(("circle", "shake")):
        for take in range(takes):
            values = motion(10 * index + take) + index
            write_csv(folder / label / f"take{take}.csv", values, **how)  # type: ignore[arg-type]
    return folder


def of(path: Path, settings: Config | None = None) -> Dataset:
    return load_samples(path, settings or config())[0]


def test_a_folder_of_csv_files_gives_the_windows_that_numpy_cuts(tmp_path: Path) -> None:
    data, how = load_samples(gestures(tmp_path, takes=1), config(window={"stride": 5}))
    assert how is not None
    assert (how.channels, how.class_names) == (("ax", "ay", "az"), ("circle", "shake"))
    held_out = round(0.3 * LENGTH)
    trained = motion(0)[: LENGTH - held_out - WINDOW].astype(np.float32)
    expected = sliding_window_view(trained, WINDOW, axis=0)[::5]  # [n, channels, window]
    count = len(expected)
    np.testing.assert_array_equal(data.x[:count], expected)
    assert data.y.tolist() == [0] * count + [1] * count
    rest = motion(0)[LENGTH - held_out :].astype(np.float32)
    np.testing.assert_array_equal(
        data.x_test[: held_out // WINDOW], sliding_window_view(rest, WINDOW, axis=0)[::WINDOW]
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_separates_columns_and_lines_does_not_matter(
    tmp_path: Path, delimiter: str, end: str
) -> None:
    plain = of(gestures(tmp_path / "plain"))
    other = of(gestures(tmp_path / "other", delimiter=delimiter, end=end))
    np.testing.assert_array_equal(other.x, plain.x)
    np.testing.assert_array_equal(other.x_test, plain.x_test)


def test_csv_parquet_and_npz_recordings_give_the_same_samples(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    folders = {kind: tmp_path / kind for kind in ("csv", "parquet", "npz")}
    gestures(folders["csv"])
    for file in sorted(folders["csv"].rglob("*.csv")):
        values = np.loadtxt(file, delimiter=",", skiprows=1)
        label = file.parent.name
        for kind in ("parquet", "npz"):
            (folders[kind] / label).mkdir(parents=True, exist_ok=True)
        columns = {name: values[:, index] for index, name in enumerate(("ax", "ay", "az"))}
        write_table(pyarrow.table(columns), folders["parquet"] / label / f"{file.stem}.parquet")
        np.savez(folders["npz"] / label / f"{file.stem}.npz", x=values, channels=list(columns))
    csv, parquet, npz = (load_samples(folder, config()) for folder in folders.values())
    for data, how in (parquet, npz):
        np.testing.assert_array_equal(data.x, csv[0].x)
        np.testing.assert_array_equal(data.y_test, csv[0].y_test)
        assert how == csv[1]


def test_train_and_test_folders_are_taken_at_their_word(tmp_path: Path) -> None:
    gestures(tmp_path / "train")
    gestures(tmp_path / "test", takes=1)
    data = of(tmp_path)
    each = len(cut_windows(motion(0).astype(np.float32), WINDOW, WINDOW // 2))
    assert len(data.x) == 4 * each
    assert len(data.x_test) == 2 * (LENGTH // WINDOW)


def test_one_table_is_cut_where_label_or_group_changes(tmp_path: Path) -> None:
    rows = ["t_s,ax,label,take"]
    for take, label in enumerate(("walk", "run", "walk", "run")):
        rows += [f"{0.02 * i:.2f},{take * 1000 + i},{label},{take}" for i in range(100)]
    path = tmp_path / "all.csv"
    path.write_text("\n".join(rows))
    settings = config(data={"group_column": "take"})
    data, how = load_samples(path, settings)
    assert how is not None
    assert how.channels == ("ax",)
    assert how.rate_hz == pytest.approx(50)
    for x in (data.x, data.x_test):
        assert (np.diff(x[:, 0], axis=1) == 1).all()  # no window spans two recordings
    assert set(data.class_names) == {"walk", "run"}


def test_rows_without_a_window_are_samples_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "flowers.csv"
    values = motion(3, 40)
    lines = ["a,b,c,label", *(f"{a},{b},{c},{'xy'[i % 2]}" for i, (a, b, c) in enumerate(values))]
    path.write_text("\n".join(lines))
    data = of(path, load_config(None, {"data": {"test_share": 0.25}}))
    assert data.x.shape == (30, 3)
    assert np.bincount(data.y_test).tolist() == [5, 5]
    together = {row.tobytes() for row in np.concatenate([data.x, data.x_test])}
    assert together == {row.tobytes() for row in values.astype(np.float32)}


def test_columns_of_targets_make_a_regression(tmp_path: Path) -> None:
    path = tmp_path / "house.csv"
    path.write_text("size,rooms,price\n" + "\n".join(f"{i},{i % 3},{i / 7}" for i in range(20)))
    data = of(path, load_config(None, {"data": {"targets": ["price"]}}))
    assert data.y.dtype == np.float32
    np.testing.assert_allclose(data.y[:, 0], data.x[:, 0] / 7, rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "statistic"),
    [
        ("standard", lambda v: (v.mean(0), v.std(0))),
        ("rms", lambda v: (0 * v[0], np.sqrt((v**2).mean(0)))),
        ("range", lambda v: (v.min(0), v.max(0) - v.min(0))),
    ],
)
def test_normalisation_is_fitted_on_training_windows_alone(
    tmp_path: Path, method: str, statistic: object
) -> None:
    folder = gestures(tmp_path)
    raw = of(folder)
    data, how = load_samples(folder, config(normalise={"method": method}))
    channels = np.moveaxis(raw.x, 1, -1).reshape(-1, 3).astype(np.float64)
    offset, spread = statistic(channels)  # type: ignore[operator]
    expected = (np.moveaxis(raw.x_test, 1, -1) - offset) / spread
    np.testing.assert_allclose(np.moveaxis(data.x_test, 1, -1), expected, rtol=2e-5, atol=1e-5)
    assert how is not None
    assert from_manifest(to_manifest(how)) == how


def test_a_models_own_preprocessing_wins_over_the_settings(tmp_path: Path) -> None:
    folder, other = gestures(tmp_path / "a"), gestures(tmp_path / "b")
    for file in other.rglob("*.csv"):  # of another sensitivity
        write_csv(file, 100 * np.loadtxt(file, delimiter=",", skiprows=1))
    _, how = load_samples(folder, config(normalise={"method": "standard"}))
    data, same = load_samples(other, config(normalise={"method": "rms"}), how)
    assert same == how
    assert abs(data.x).max() > 50  # normalised as the first data were


def test_one_window_alone_becomes_the_sample_that_training_saw(tmp_path: Path) -> None:
    data, how = load_samples(gestures(tmp_path, takes=1), config(normalise={"method": "standard"}))
    assert how is not None
    np.testing.assert_array_equal(how.sample(motion(0)[:WINDOW].astype(np.float32)), data.x[0])


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=6),
    share=st.floats(0, 0.9),
    window=st.integers(1, 30),
)
def test_held_out_samples_are_never_trained_on(
    lengths: list[int], share: float, window: int
) -> None:
    values = iter(range(sum(lengths)))
    recordings = [
        Recording(np.array([[next(values)] for _ in range(length)], np.float32), "a", str(i))
        for i, length in enumerate(lengths)
    ]
    parts = split_recordings(recordings, share, window)
    trained, held_out = (
        {float(v) for part in parts if part.held_out is wanted for v in part.values.flat}
        for wanted in (False, True)
    )
    assert all(part.held_out is not None for part in parts)
    assert not trained & held_out
    long = [length for length in lengths if length >= 3 * window]
    assert len(trained | held_out) >= sum(lengths) - window * len(long)
    if share > 0 and long:
        assert held_out
        assert trained


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.floats(0.01, 0.9))
def test_every_class_with_two_samples_is_on_both_sides(labels: list[str], share: float) -> None:
    held_out = split_samples(labels, share)
    for name in set(labels):
        chosen = [part for part, label in zip(held_out, labels, strict=True) if label == name]
        assert len(chosen) == 1 or 0 < sum(chosen) < len(chosen)


def picture(path: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_pictures_are_scaled_cut_and_copied_only_for_training(tmp_path: Path) -> None:
    for index in range(6):
        picture(tmp_path / "red" / f"{index}.png", (40 + index, 20), (255, 0, 0))
        picture(tmp_path / "blue" / f"{index}.bmp", (20, 30 + index), (0, 0, 255))
    asked = {"size": [12, 16], "copies": 2, "shift": 0.0, "brightness": 0.0}
    settings = load_config(None, {"image": asked})
    data, how = load_samples(tmp_path, settings)
    assert data.x.shape == (3 * 8, 3, 12, 16)
    assert data.x_test.shape == (4, 3, 12, 16)
    for x, y in ((data.x, data.y), (data.x_test, data.y_test)):
        assert (x[y == 1, 0] == 1).all()  # classes are blue, red
        assert (x[y == 0, 2] == 1).all()
    assert how is not None
    assert how.channels == ("red", "green", "blue")
    again, _ = load_samples(tmp_path, settings)
    np.testing.assert_array_equal(again.x, data.x)


def test_padding_keeps_the_whole_picture_and_greys_are_one_channel(tmp_path: Path) -> None:
    for index in range(4):
        picture(tmp_path / "wide" / f"{index}.png", (40, 20), (255, 255, 255))
        picture(tmp_path / "tall" / f"{index}.png", (20, 40), (255, 255, 255))
    data = of(
        tmp_path,
        load_config(None, {"image": {"size": [16, 16], "crop": "pad", "colour": "grey"}}),
    )
    assert data.x.shape[1:] == (1, 16, 16)
    np.testing.assert_allclose(data.x.mean(axis=(1, 2, 3)), 0.5)


def test_an_augmented_copy_moves_by_no_more_than_it_may() -> None:
    image = np.zeros((20, 20, 1), np.float32)
    image[10, 10] = 1
    asked = replace(ImageSettings(), shift=0.2, brightness=0.0)
    generator = np.random.default_rng(5)
    for _ in range(30):
        rows, columns, _ = np.nonzero(augmented(image, asked, generator))
        assert abs(rows - 10).max() <= 4
        assert abs(columns - 9.5).max() <= 4.5  # it may be mirrored


WRONG: dict[str, tuple[str, str]] = {
    "no_label": ("a,b\n1,2\n3,4\n", "no column 'label'"),
    "near": ("a,labels\n1,x\n", "did you mean 'labels'"),
    "not_a_number": ("a,label\n1,x\n2,x\nfour,x\n", ":4: column 'a' holds 'four'"),
    "not_finite": ("a,label\n1,x\nnan,x\n", ":3: column 'a' holds 'nan'"),
    "ragged": ("a,b,label\n1,2,x\n1,x\n", ":3: 2 columns"),
    "empty": ("\n\n", "the file is empty"),
    "no_rows": ("a,label\n", "no rows"),
    "no_header": ("1,2\n3,4\n", "no column names"),
    "twice": ("a,a,label\n1,2,x\n", "two columns are called 'a'"),
    "only_text": ("name,label\nu,x\n", "no column of numbers"),
    "no_label_there": ("a,label\n1,x\n2,\n", "no label in column"),
    "short": ("a,label\n1,x\n2,x\n", "nothing to train on"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_table_is_refused_in_words(tmp_path: Path, name: str) -> None:
    text, words = WRONG[name]
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"data\.csv") as caught:
        of(path)
    assert words in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
@example(b",")
def test_no_bytes_in_a_csv_file_do_worse_than_be_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            of(path)


def test_files_with_other_channels_are_named(tmp_path: Path) -> None:
    gestures(tmp_path)
    write_csv(tmp_path / "shake" / "zz.csv", motion(1), header=("ax", "ay", "gz"))
    with pytest.raises(DataError, match=r"zz\.csv: its channels are ax, ay, gz"):
        of(tmp_path)


def test_what_is_no_data_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.docx").write_text("")
    with pytest.raises(DataError, match=r"allowed: a \.npz"):
        of(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        of(tmp_path / "nothing")


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", (8, 8), (1, 2, 3))
    (tmp_path / "a" / "2.png").write_bytes((tmp_path / "a" / "1.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"2\.png: not a readable picture"):
        of(tmp_path)


def test_old_preprocessing_of_another_form_is_refused() -> None:
    with pytest.raises(Exception, match="compile the model again"):
        from_manifest({"no": "such field"})
    assert from_manifest(to_manifest(Preprocessing())) == Preprocessing()
