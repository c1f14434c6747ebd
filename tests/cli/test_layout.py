"""Tables in a terminal: whatever its width, no id is cut and no word broken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perfci.cli.layout import fit, fit_most, folded, lines

COLUMNS = ("run", "lab", "job", "verdict", "note")
RUN = "20261117T041500Z-nightly-{:04x}"
ROWS = [(RUN.format(n), "embedded", "nightly", "no change", "") for n in range(3)]


def text(columns, rows, width, numbers=()):
    return [first + rest for _, first, rest in lines(fit(columns, rows, width), numbers)]


def test_what_is_the_same_in_all_rows_is_said_once_and_what_is_nowhere_is_not_said():
    layout = fit(COLUMNS, ROWS, 80)
    assert layout.columns == ("run",)
    assert layout.same == (("lab", "embedded"), ("job", "nightly"), ("verdict", "no change"))


def test_a_column_that_has_to_stay_is_not_said_below_the_table():
    rows = [("a", "+30 %", "x"), ("b", "+30 %", "x")]
    layout, left_out = fit_most(("action", "effect", "note"), rows, 16, needed=2, stay=("effect",))
    assert layout.columns == ("action", "effect")
    assert layout.same == (("note", "x"),)
    assert left_out == ()


def test_the_first_column_keeps_to_one_line_and_others_are_folded():
    rows = [("one two three", "four five six seven"), ("x", "y")]
    assert text(("name", "note"), rows, 24)[1].startswith("one two three  four")


def test_one_row_shows_all_that_it_has():
    assert fit(COLUMNS, ROWS[:1], 80).columns == ("run", "lab", "job", "verdict")


def test_columns_stand_beside_each_other_and_numbers_to_the_right():
    rows = [("a", "1.5", "one two"), ("bb", "22", "three")]
    assert text(("id", "n", "words"), rows, 80, {"n"}) == [
        "id    n  words",
        "a   1.5  one two",
        "bb   22  three",
    ]


def test_a_long_cell_is_folded_between_words():
    rows = [("a", "x", "one two three four"), ("b", "yy", "five")]
    assert text(("id", "n", "words"), rows, 16) == [
        "id  n   words",
        "a   x   one two",
        "        three",
        "        four",
        "b   yy  five",
    ]


def test_what_does_not_fit_at_all_is_a_block_of_lines_each():
    rows = [(RUN.format(1), "embedded-in-the-north", "a"), (RUN.format(2), "other", "b")]
    assert text(("run", "lab", "code"), rows, 40) == [
        RUN.format(1),
        "  lab   embedded-in-the-north",
        "  code  a",
        RUN.format(2),
        "  lab   other",
        "  code  b",
    ]


def test_a_no_break_space_joins_a_number_and_its_unit():
    assert folded("about 0.4\u00a0s more", 9) == ["about", "0.4\u00a0s", "more"]


CELL = st.lists(st.text("abc", min_size=1, max_size=9), max_size=4).map(" ".join)


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=5), st.integers(20, 100))
def test_nothing_is_lost_or_broken(rows, width):
    shown = text(("first", "second", "third"), rows, width)
    assert {word for row in rows for word in " ".join(row).split()} <= {
        word
        for line in (*shown, *(value for _, value in fit(("first", "second", "third"), rows, width).same))
        for word in line.split()
    }


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=5), st.integers(40, 100))
def test_no_line_is_longer_than_the_terminal_where_the_words_fit(rows, width):
    layout = fit(("first", "second", "third"), rows, width)
    if layout.widths:
        assert all(len(first + rest) <= width for _, first, rest in lines(layout))


def test_the_last_columns_are_left_out_and_named_before_anything_is_folded():
    columns = ("run", "verdict", "job", "lab", "code")
    rows = [
        (RUN.format(1), "33 series too noisy", "nightly", "embedded", "c1"),
        (RUN.format(2), "no change", "smoke", "north", "c1"),
    ]
    whole, left_out = fit_most(columns, rows, 200, needed=2)
    assert (whole.columns, left_out) == (columns[:-1], ())
    layout, left_out = fit_most(columns, rows, 62, needed=2)
    assert (layout.columns, left_out) == (columns[:3], ("lab",))
    assert layout.same == (("code", "c1"),), (
        "what is the same everywhere is said, whether there is room or not"
    )
    narrow, left_out = fit_most(columns, rows, 45, needed=2)
    assert (narrow.columns, left_out) == (columns[:2], ("job", "lab"))
    assert [rest.strip() for _, _, rest in lines(narrow)] == [
        "verdict",
        "33 series too",
        "noisy",
        "no change",
    ]
