import json

import pytest


@pytest.fixture
def clock(plugin):
    return plugin("phase_clock")


def test_moments_are_added_in_their_order(clock, tmp_path):
    file = tmp_path / "run" / "clock.json"
    clock.add(file, "stop", 1.5)
    clock.add(file, "start", 2.5)
    clock.add(file, "", 4.0)
    assert json.loads(file.read_text()) == [
        {"phase": "stop", "at": 1.5},
        {"phase": "start", "at": 2.5},
        {"phase": "", "at": 4.0},
    ]


@pytest.mark.parametrize("text", ["{}", "[1", ""])
def test_a_file_that_is_something_else_stays_as_it_is(clock, tmp_path, text):
    file = tmp_path / "clock.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"clock\.json|Expecting"):
        clock.add(file, "stop", 1.0)
    assert file.read_text() == text
