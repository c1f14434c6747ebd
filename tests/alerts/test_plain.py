from __future__ import annotations

from perfci.alerts.document import (
    FactList,
    Log,
    MailDocument,
    MailTone,
    Paragraph,
    Picture,
    Row,
    Section,
    Steps,
    Table,
)
from perfci.alerts.plain import render


def lines(*blocks, verdict="It is slower."):
    document = MailDocument("subject", MailTone.BAD, verdict, (Section("Head", blocks),), "foot")
    return render(document).splitlines()


def test_the_frame():
    assert lines(Paragraph("Text.")) == [
        "It is slower.", "", "", "Head", "----", "Text.", "", "", "-- ", "foot",
    ]  # fmt: skip


def test_a_section_with_nothing_but_a_picture_is_left_out():
    assert lines(Picture(b"", "a picture")) == ["It is slower.", "", "", "-- ", "foot"]


def test_running_text_breaks_at_78_but_not_inside_a_quantity_or_a_long_word():
    text = "a " * 38 + "12\u00a0s " + "x" * 100
    body = lines(Paragraph(text))[5:-4]
    assert body == [("a " * 38).rstrip(), "12 s", "x" * 100]


def test_columns_of_a_table_stand_below_each_other():
    body = lines(
        Table(
            "series",
            ("now", "effect"),
            (Row("short", "where", ("1 s", "+3 %")), Row("b", "", ("100 s", "+30 %"))),
        )
    )[5:-4]
    assert body == [
        "    now     effect", "", "short  (where)", "    1 s     +3 %", "", "b", "    100 s   +30 %",
    ]  # fmt: skip


def test_a_title_that_is_too_long_for_one_line_gets_two():
    body = lines(Table("series", ("now",), (Row("t" * 50, "s" * 40, ("1 s",)),)))[5:-4]
    assert body[2:4] == ["t" * 50, f"  ({'s' * 40})"]


def test_facts_hang_under_their_names():
    body = lines(FactList((("a", "word " * 20), ("long name", "x"))))[5:-4]
    assert body[0].startswith("a          word word")
    assert body[1].startswith("           word")
    assert body[-1] == "long name  x"


def test_commands_and_logs_are_never_broken():
    command, log = "perfci " + "x" * 100, "y" * 400
    body = lines(Steps((("Do:", command), ("Then:", "b"))), Log("a.log", f"{log}\n  in"))[5:-4]
    assert body == ["Do:", f"    {command}", "", "Then:", "    b", "", "a.log:", f"  {'y' * 300}", "    in"]
