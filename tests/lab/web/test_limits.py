"""How often one address may ask."""

from __future__ import annotations

from perfci.lab.web import limits
from perfci.lab.web.limits import RateLimit


def test_a_burst_is_allowed_then_a_rate():
    now = [0.0]
    limit = RateLimit(2.0, 3, clock=lambda: now[0])
    assert [limit.take("a") for _ in range(3)] == [0, 0, 0]
    assert limit.take("a") == 0.5
    assert limit.take("b") == 0
    now[0] = 0.5
    assert limit.take("a") == 0
    assert limit.take("a") > 0
    now[0] = 1000
    assert [limit.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "_MOST_KEYS", 10)
    limit = RateLimit(1.0, 1, clock=lambda: 0.0)
    for number in range(1000):
        limit.take(str(number))
    assert len(limit._left) == 10
    assert limit.take("999") > 0
