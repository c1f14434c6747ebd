"""What a mail says, apart from how it looks: plain text and HTML are made from the same document."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MailTone(StrEnum):
    """What a mail is about at a glance."""

    BAD = "bad"
    GOOD = "good"
    LAB = "lab"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what it is about, where that belongs, and a value for each column."""

    title: str
    subtitle: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column heads; `about` heads the titles. The cell of column `strong` is what matters."""

    about: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    strong: int = -1


@dataclass(frozen=True, slots=True)
class FactList:
    """Names with their values."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """What the reader can do: each with a command or an address."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Log:
    """Lines of a log, as they are."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture (PNG) with its description for those who don't see it."""

    png: bytes
    alt: str


Block = Paragraph | Table | FactList | Steps | Log | Picture


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class MailDocument:
    """A whole mail: subject, the verdict in one sentence, sections, and the line at its foot.

    `page` is what a page shows and its address, right below the verdict; empty where none is served.
    """

    subject: str
    tone: MailTone
    verdict: str
    sections: tuple[Section, ...]
    foot: str
    page: tuple[str, str] = ("", "")
