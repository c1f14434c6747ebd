import io
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.results.json_stream import CHUNK, JsonStream, NotJson

SCALARS = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda s: st.lists(s, max_size=4) | st.dictionaries(st.text(), s, max_size=4), max_leaves=20
)


class Dripping(io.RawIOBase):
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, content, size):
        self.content, self.size = io.BytesIO(content), size

    def read(self, size=-1):
        return self.content.read(self.size)


def whole(stream):
    """Read everything by stepping into it."""
    opening = stream.opens()
    if opening == "{":
        return {key: whole(stream) for key in stream.members()}
    if opening == "[":
        return [whole(stream) for _ in stream.items()]
    return stream.value()


def read(content, size=CHUNK):
    stream = JsonStream(Dripping(content, size))
    found = whole(stream)
    stream.end()
    return found


@settings(max_examples=150, deadline=None)
@given(VALUES, st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
def test_any_json_in_pieces_of_any_size_is_what_it_is_in_one_piece(value, size, ascii_only, indent):
    content = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    assert read(content, size) == value
    stream = JsonStream(Dripping(content, size))
    assert stream.value() == value
    stream.end()


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=3), st.data())
def test_json_that_is_cut_off_or_goes_on_is_none(value, data):
    content = json.dumps(value).encode()
    end = data.draw(st.integers(0, len(content) - 1))
    size = data.draw(st.integers(1, 9))
    with pytest.raises(NotJson):
        read(content[:end], size)
    with pytest.raises(NotJson, match="behind the end"):
        read(content + b" \n}", size)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 9))
def test_bytes_of_any_kind_are_read_as_json_reads_them_or_refused(content, size):
    try:
        found = read(content, size)
    except NotJson:
        with pytest.raises(ValueError, match=r".+"):
            json.loads(content.decode("utf-8"))
    else:
        expected = json.loads(content.decode("utf-8"))
        assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_what_is_wrong_in_the_middle_is_found_there():
    """A mistake near the beginning must not make it read, and hold, all the rest."""
    source = io.BytesIO(b'[{"a": 1 "b": 2}' + b" " * (8 * CHUNK))
    stream = JsonStream(source)
    with pytest.raises(NotJson, match="at character 9"):
        list(whole(stream))
    assert source.tell() <= 2 * CHUNK


def test_nesting_without_end_is_refused():
    with pytest.raises(NotJson, match="nested too deeply"):
        JsonStream(io.BytesIO(b"[" * 200_000)).value()


def test_a_number_of_thousands_of_digits_is_refused():
    with pytest.raises(NotJson, match="digits"):
        JsonStream(io.BytesIO(b"9" * 10_000)).value()
