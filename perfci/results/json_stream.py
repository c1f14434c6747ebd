"""JSON that is too large to be held at once: read from its beginning to its end, value by value.

The reader steps into objects and arrays (`members`, `items`) as its caller asks, and decodes whole what the
caller asks for whole (`value`). It holds one such value and one chunk of text at a time.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from perfci.results.files import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 1 << 20
"""Bytes that are read at a time; more where a single value needs more."""
_NEAR_END = 16
"""An error so many characters before the end of what was read can be due to what was not read yet."""
_IN_NUMBERS = "0123456789+-.eE"
_SPACE = " \t\n\r"
_DECODER = json.JSONDecoder()


class NotJson(ValueError):
    """What is read is no JSON, or not JSON to its end."""


@dataclass(frozen=True, slots=True)
class JsonSteps:
    """Steps into a stream whose form is known, and knows the place: `tasks[0].subtasks[2]`.

    `wrong` makes the error where something else is there: of its place, of what was found and expected.
    """

    stream: JsonStream
    wrong: Callable[[str, str, str], Exception]
    empty: bool
    """Whether lists may have nothing in them."""

    def object(self, place: str) -> None:
        """Make sure that an object comes next."""
        if self.stream.opens() != "{":
            raise self.wrong(place, f"got {shown(self.stream.value())}", "an object")

    def items(self, place: str) -> Iterator[str]:
        """Step into a list: yield the place of each item; the caller reads it before the next one."""
        if self.stream.opens() != "[":
            raise self.wrong(place, f"got {shown(self.stream.value())}", "a list")
        number = -1
        for number in self.stream.items():
            yield f"{place}[{number}]"
        if number < 0 and not self.empty:
            raise self.wrong(place, "got []", "at least one")

    def list_in(self, place: str, name: str) -> Iterator[str]:
        """Step into an object: yield the places of the items of the list `name` in it."""
        self.object(place)
        is_there = False
        for key in self.stream.members():
            if key == name:
                is_there = True
                yield from self.items(f"{place}.{name}")
            else:
                self.stream.value()
        if not is_there:
            raise self.wrong(f"{place}.{name}", "missing", "it to be there")


class JsonStream:
    """Reads one JSON text from a binary file that is at its beginning.

    Each method reads the next thing and raises NotJson where something else is there. Iterators have to be
    used up before the next thing is asked for.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._before, self._ended = "", 0, 0, False

    def opens(self) -> str:
        """Return the character with which the next value begins: `{`, `[`, or that of something else."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in _SPACE:
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if not self._more():
                raise self._broken("the text ends too early", at)

    def value(self) -> Any:
        """Decode the next value, whatever it is."""
        self.opens()
        size = CHUNK
        while True:
            try:
                found, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                broken = self._broken(error.msg, error.pos)
                cut_off = error.msg.startswith("Unterminated string")
                if not cut_off and error.pos < len(self._text) - _NEAR_END:
                    raise broken from error
                if not self._more(size):
                    raise broken from error
            except RecursionError as error:
                raise self._broken("nested too deeply", self._at) from error
            except ValueError as error:  # a number of thousands of digits
                raise self._broken(str(error), self._at) from error
            else:
                # A number may go on in what was not read yet: `0` and `0.` of `0.5`.
                if self._text[end : end + _NEAR_END].strip(_IN_NUMBERS):
                    self._at = end
                    return found
                length = end - self._at
                if not self._more(size):
                    self._at += length
                    return found
            size *= 2

    def members(self) -> Iterator[str]:
        """Step into an object: yield each key; the caller reads the value before it asks for the next key."""
        self._take("{")
        if self.opens() == "}":
            self._at += 1
            return
        while True:
            if self.opens() != '"':
                raise self._broken("expected a key", self._at)
            key: str = self.value()
            self._take(":")
            yield key
            if not self._goes_on("}"):
                return

    def items(self) -> Iterator[int]:
        """Step into an array: yield the number of each item; the caller reads it before the next one."""
        self._take("[")
        if self.opens() == "]":
            self._at += 1
            return
        number = 0
        while True:
            yield number
            if not self._goes_on("]"):
                return
            number += 1

    def end(self) -> None:
        """Make sure that nothing but white space is left."""
        while True:
            rest = self._text[self._at :].strip(_SPACE)
            if rest:
                raise self._broken("more text behind the end", self._at)
            self._at = len(self._text)
            if not self._more():
                return

    def _goes_on(self, closing: str) -> bool:
        mark = self.opens()
        if mark not in {",", closing}:
            raise self._broken(f"expected , or {closing}", self._at)
        self._at += 1
        return mark == ","

    def _take(self, mark: str) -> None:
        if self.opens() != mark:
            raise self._broken(f"expected {mark}", self._at)
        self._at += 1

    def _more(self, size: int = CHUNK) -> bool:
        """Read on; False at the end of the file."""
        if self._ended:
            return False
        chunk = self._source.read(size)
        self._ended = not chunk
        try:
            text = self._decode.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            raise self._broken(f"not UTF-8: {error.reason}", len(self._text)) from error
        self._before += self._at
        self._text, self._at = self._text[self._at :] + text, 0
        return not self._ended

    def _broken(self, what: str, at: int) -> NotJson:
        return NotJson(f"{what}, at character {self._before + at}")
