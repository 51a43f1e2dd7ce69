"""Lines of numbers as sketches print them, and whatever else may come out of a serial port."""

import contextlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import UserError
from ondevice.live.csv_lines import LONGEST_LINE_BYTES, SAME_FAULT_LINES, CsvLines

NUMBERS = st.floats(-1e6, 1e6, width=32)
SEPARATORS = st.sampled_from([",", ";", "\t", " ", ", ", ",\t", "  "])


def parsed(text: str | bytes, **options: bool) -> tuple[CsvLines, list[list[float]]]:
    lines = CsvLines("sensor", **options)
    rows = lines.feed(text.encode() if isinstance(text, str) else text).tolist()
    return lines, rows + lines.end().tolist()


def names_of(lines: CsvLines) -> tuple[str, ...]:
    assert lines.layout is not None
    return lines.layout.names


@given(
    rows=st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(NUMBERS, min_size=n, max_size=n), min_size=1, max_size=6)
    ),
    separator=SEPARATORS,
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    header=st.booleans(),
    trailing=st.booleans(),
    cuts=st.lists(st.integers(0, 400)),
)
def test_rows_are_read_however_they_are_separated_and_in_whatever_pieces_they_come(
    rows: list[list[float]],
    separator: str,
    line_end: str,
    header: bool,
    trailing: bool,
    cuts: list[int],
) -> None:
    names = [f"a{index}" for index in range(len(rows[0]))]
    table: list[Sequence[object]] = [names] if header else []
    text = [separator.join(str(field) for field in row) for row in [*table, *rows]]
    end = separator if trailing else ""
    data = "".join(line + end + line_end for line in text).encode()
    lines = CsvLines("sensor")
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    read = [row for a, b in pairwise(places) for row in lines.feed(data[a:b]).tolist()]
    assert read == rows
    assert lines.skipped == 0
    assert names_of(lines) == tuple(
        names if header else [f"channel_{index + 1}" for index in range(len(names))]
    )


def test_the_serial_plotter_form_names_the_channels() -> None:
    lines, rows = parsed("ax:0.1,ay: -2\nax:3,ay:4e-1\n")
    assert names_of(lines) == ("ax", "ay")
    assert rows == [[0.1, -2.0], [3.0, 0.4]]


def test_a_cut_first_line_of_numbers_is_dropped_and_a_header_is_kept() -> None:
    for cut in ("1,2", "1:5,b:6", "5,", ":1", "?"):
        lines, rows = parsed(f"{cut}\n3,4\n", may_begin_cut=True)
        assert (rows, lines.skipped) == ([[3.0, 4.0]], 0 if cut != "?" else 1)
    lines, rows = parsed("ax,ay\n3,4\n", may_begin_cut=True)
    assert (names_of(lines), rows) == (("ax", "ay"), [[3.0, 4.0]])


def test_words_before_the_first_row_are_counted_and_are_no_names() -> None:
    lines, rows = parsed("MPU6050 found!\nax,ay,az\n1,2,3\n")
    assert names_of(lines) == ("ax", "ay", "az")
    assert (rows, lines.skipped, lines.last_skipped) == ([[1.0, 2.0, 3.0]], 1, "'MPU6050 found!'")


def test_words_between_the_header_and_the_first_row_do_not_hide_it() -> None:
    lines, rows = parsed("ax,ay\nnan,nan\nready\n1,2\n")
    assert (names_of(lines), rows, lines.skipped) == (("ax", "ay"), [[1.0, 2.0]], 2)


def test_garbage_between_rows_is_counted_and_the_rows_are_kept() -> None:
    lines, rows = parsed(b"1,2\n\xff\xfe\x00,\nnan,3\n1e39,3\nx,y\n1,,2\n5,6\n")
    assert rows == [[1.0, 2.0], [5.0, 6.0]]
    assert (lines.skipped, lines.last_skipped) == (5, "'1,,2'")


def test_the_header_again_is_a_restart_and_no_garbage() -> None:
    lines, rows = parsed("ax,ay\n1,2\nax,ay\n3,4\n")
    assert (rows, lines.skipped) == ([[1.0, 2.0], [3.0, 4.0]], 0)


def test_one_row_of_another_width_is_garbage_and_several_are_an_error_with_the_line() -> None:
    lines, rows = parsed("1,2\n1,2,3\n4,5\n")
    assert (rows, lines.skipped) == ([[1.0, 2.0], [4.0, 5.0]], 1)
    with pytest.raises(UserError, match=r"sensor: '7,8,9' has 3 columns, and there were 2"):
        parsed("ax,ay\n1,2\n" + "7,8,9\n" * SAME_FAULT_LINES)


@pytest.mark.parametrize(
    "text", ["0,5;1,5\n", "0,5\t1\n", "0,5 1,25\n", "ax,ay\n0,5,1,25\n", "1;2\n" + "0,5;1\n" * 3]
)
def test_decimal_commas_are_refused_clearly(text: str) -> None:
    with pytest.raises(UserError, match="has decimal commas; print numbers with a point"):
        parsed(text)


def test_a_line_without_end_is_dropped_and_takes_no_memory() -> None:
    lines = CsvLines("sensor")
    lines.feed(b"1,2\n")
    for _ in range(100):
        lines.feed(b"9" * LONGEST_LINE_BYTES)
        assert len(lines._rest) <= LONGEST_LINE_BYTES
    assert lines.feed(b"9,9\n3,4\n").tolist() == [[3.0, 4.0]]
    assert lines.skipped == 1


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"1,2\n", b"a:1\n", b"\r\n", b"-"])))
def test_whatever_arrives_is_a_row_of_finite_numbers_or_counted_or_a_clear_error(
    pieces: list[bytes],
) -> None:
    lines = CsvLines("sensor", may_begin_cut=True)
    widths: set[int] = set()
    with contextlib.suppress(UserError):
        for piece in [*pieces, b"\n"]:
            rows = lines.feed(piece)
            if len(rows):
                widths.add(rows.shape[1])
                assert widths == {len(names_of(lines))}
                assert np.isfinite(rows.astype(np.float32)).all()
        assert lines.skipped <= sum(map(len, pieces))
