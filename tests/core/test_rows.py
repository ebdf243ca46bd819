"""The rows of a shared store: told by the column as they are told one by one."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan

from hypothesis import given
from hypothesis import strategies as st

from cqrs_ddd_health import StoredBeat
from cqrs_ddd_health.heartbeats.stores.rows import ColumnsReader, columns_of_rows, read_of

GOOD: tuple[tuple[object, ...], ...] = (
    *(("outbox", "a b"), ("host:1", "1"), ("x", "y"), (1, 2), (0.5, 1.0), (60.0,), (0.0, 5.0)),
    *((None, "busy"), (None, 1), (100.5, -7.0)),
)
ANYTHING = [
    None,
    True,
    0,
    1,
    -1,
    2**53,
    0.5,
    1.0,
    nan,
    inf,
    -1e11,
    "",
    " ",
    "a\nb",
    "x" * 129,
    b"x",
]
Row = Sequence[object]
GOOD_ROWS: st.SearchStrategy[Row] = st.tuples(*map(st.sampled_from, GOOD))
ROWS: st.SearchStrategy[Row] = st.tuples(
    *(st.sampled_from([*values, *values, *ANYTHING]) for values in GOOD)
)


def told(rows: Sequence[Row], reader: ColumnsReader) -> tuple[list[str], int]:
    """Return what is told of rows by column; by what it looks like, for `True` equals 1."""
    columns = columns_of_rows(rows, len(StoredBeat._fields))
    read = reader.read_of(100.0, columns, 3)
    return list(map(repr, read.beats)), read.dropped


@given(st.lists(st.lists(GOOD_ROWS, max_size=5) | st.lists(GOOD_ROWS | ROWS, max_size=5)))
def test_rows_are_told_by_column_as_one_by_one_whatever_was_read_before(
    looks: list[list[Row]],
) -> None:
    reader = ColumnsReader()
    for rows in looks:
        read = read_of(100.0, rows, 3)
        assert told(rows, reader) == (list(map(repr, read.beats)), read.dropped)


@given(st.lists(GOOD_ROWS, min_size=1, max_size=5), st.data())
def test_one_value_is_exchanged(rows: list[Row], data: st.DataObject) -> None:
    reader = ColumnsReader()
    told(rows, reader)
    place = data.draw(st.integers(0, len(rows) - 1))
    field = data.draw(st.integers(0, len(GOOD) - 1))
    row = [*rows[place]]
    row[field] = data.draw(st.sampled_from(ANYTHING))
    again = [*rows[:place], row, *rows[place + 1 :]]
    read = read_of(100.0, again, 3)
    assert told(again, reader) == (list(map(repr, read.beats)), read.dropped)


def test_what_only_equals_a_number_is_none() -> None:
    reader = ColumnsReader()
    row = ("outbox", "host:1", "x", 1, 1.0, 1.0, 1.0, None, 1, 1.0)
    assert told([row], reader)[1] == 3
    for field in range(3, len(row)):
        if row[field] is not None:
            assert told([(*row[:field], True, *row[field + 1 :])], reader) == ([], 4)


def test_texts_that_were_there_before_are_the_same_again() -> None:
    reader = ColumnsReader()

    def instances() -> Sequence[str]:
        rows = [
            ("outbox", f"host:{number}", "x", 1, 0.5, 60.0, 5.0, None, None, 1.0)
            for number in (1, 2)
        ]
        return [beat.instance for beat in reader.read_of(1.0, columns_of_rows(rows, 10)).beats]

    first, again = instances(), instances()
    assert all(one is other for one, other in zip(first, again, strict=True))


def test_more_rows_than_are_taken_at_a_time() -> None:
    rows = [(number, -number) for number in range(1_234)]
    assert columns_of_rows(rows, 2) == [list(range(1_234)), [-number for number in range(1_234)]]
