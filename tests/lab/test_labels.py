"""Filters over what is known of nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.lab.errors import NodesUnmatched
from perfci.lab.labels import LONGEST, check_expression, matching
from perfci.lab.model import Node

NODES = (
    Node("a", labels={"model": "r640", "cores": "32", "nic_speed": "25", "rack": "3"}),
    Node("b", labels={"model": "r640", "cores": "8", "nic_speed": "100", "rack": "4", "gpu": "yes"}),
    Node("c", labels={"model": "mx-5", "cores": "64", "rack": "03"}),
)


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("cores>=32 and nic_speed>=25", "a"),
        ("cores >= 32", "ac"),
        ("cores > 8.5 or gpu", "abc"),
        ("9 < cores < 64", "a"),
        ("cores == 8", "b"),
        ("cores == '8'", "b"),
        ("rack == 3", "ac"),
        ('rack == "3"', "a"),
        ('model == "r640" and rack != "3"', "b"),
        ("gpu", "b"),
        ("not gpu", "ac"),
        ('name in ["c", "a"]', "ac"),
        ("name not in ('c', 'a')", "b"),
        ("rack in [3, 4]", "abc"),
        ("nic_speed != 25", "bc"),
        ("not (nic_speed < 1000)", "c"),
        ("model == 3 or name == 'b'", "b"),
        ("cores > -1", "abc"),
    ],
)
def test_what_fits(where, names) -> None:
    for nodes in (NODES, NODES[::-1]):
        assert matching(nodes, where) == frozenset(names)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("coers >= 32", "no node has a label coers; did you mean 'cores'"),
        ("model > 3", "model of a is no number"),
        ("cores > 1000", "labels there are: cores=32"),
    ],
)
def test_what_fits_no_node(where, reason) -> None:
    with pytest.raises(NodesUnmatched, match=reason):
        matching(NODES, where)


@pytest.mark.parametrize(
    "where",
    [
        "",
        "cores >=",
        "cores => 3",
        "__import__('os').system('true')",
        "cores.real",
        "cores[0] == 1",
        "[x for x in 'ab']",
        "lambda: 1",
        "cores + 1 == 2",
        "cores == f'{name}'",
        "cores is 3",
        "cores in 3",
        "cores in name",
        "cores == True",
        "3",
        "'text'",
        "cores == 3; DROP TABLE reservation",
        "name == 'a' -- comment",
        "a" * (LONGEST + 1),
        "(" * 250 + "a" + ")" * 249,
        "not " * 120 + "(a",
        "cores == 1\x00",
        "cores == 1e999999 and (",
        "model == b'x'",
        "cores == -'1'",
    ],
)
def test_what_is_no_expression(where) -> None:
    with pytest.raises(ValueError, match="expected an expression such as"):
        check_expression(where)


@given(where=st.text(max_size=60))
def test_any_text_is_an_expression_or_a_clear_error(where) -> None:
    try:
        matching(NODES, where)
    except (ValueError, NodesUnmatched):
        return
