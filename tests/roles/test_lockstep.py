"""Whose turn it is: pairs, unequal numbers, sides that hang, die or leave. Without sockets, Rally or clocks."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lockstep import GATHER_SECONDS, LEAST_PAIRS, Lockstep, Until, error_of

from perfci.analysis.pairs import draw_effect

OLD, NEW = "old", "new"
PATIENCE = 100.0


class Played:
    """Two sides that run a task of some iterations each; `at` is the time."""

    def __init__(self, *, old: int = 4, new: int = 4, concurrency: int = 1, seed: int = 1) -> None:
        self.steps = Lockstep((OLD, NEW), seed=seed)
        self.wanted = {OLD: old, NEW: new}
        self.concurrency = concurrency
        self.next = {OLD: 1, NEW: 1}
        self.at = 0.0
        self.log: list[tuple[str, ...]] = []
        self.waiting: set[tuple] = set()
        self.running: set[tuple] = set()
        self.hung: set[str] = set()
        self.seconds = lambda _side, _number: 1.0

    def begin(self, *sides: str, slug: str = "01-task", until: Until | None = None) -> Played:
        for side in sides or (OLD, NEW):
            self.steps.join(side, self.at)
            self.steps.begin(side, (side, "begin"), slug, PATIENCE, self.at, until)
        self.pump()
        return self

    def ask(self, side: str) -> None:
        """Let a side ask for as many turns as its load generators do."""
        busy = sum(1 for token in (*self.waiting, *self.running) if token[0] == side)
        for _ in range(self.concurrency - busy):
            number = self.next[side]
            if number > self.wanted[side]:
                break
            self.next[side] += 1
            token = (side, number)
            self.waiting.add(token)
            block = min(
                self.concurrency, self.wanted[side] - (number - 1) // self.concurrency * self.concurrency
            )
            self.steps.ask(side, token, number, block, self.at)

    def pump(self) -> list[tuple]:
        found = self.steps.due(self.at)
        for token in found:
            if token in self.waiting:
                self.waiting.remove(token)
                self.running.add(token)
                if token in self.steps.last:  # Rally begins no further one
                    self.wanted[token[0]] = self.next[token[0]] - 1
            self.log.append(token)
        return found

    def play(self) -> Played:
        """Let both sides run to their end, as far as they get."""
        for _ in range(1000):
            before = (len(self.log), len(self.waiting))
            for side in (OLD, NEW):
                if side not in self.hung:
                    self.ask(side)
            self.pump()
            moved = any(side not in self.hung for side, _ in self.running)
            assert len({side for side, _ in self.running} - self.hung) <= 1, "both sides at once"
            for token in sorted(self.running):
                if token[0] not in self.hung:
                    self.running.remove(token)
                    seconds = self.seconds(*token)
                    self.steps.done(token, self.at, failed=False, now=self.at, seconds=seconds)
            for side in (OLD, NEW):
                busy = any(token[0] == side for token in (*self.waiting, *self.running))
                if self.next[side] > self.wanted[side] and not busy and (side, "finish") not in self.log:
                    self.steps.finish(side, (side, "finish"), self.at)
            self.pump()
            if not moved and (len(self.log), len(self.waiting)) == before:
                deadline = self.steps.deadline(self.at)
                if deadline is None:
                    break
                assert deadline > self.at
                self.at = deadline
        return self

    @property
    def task(self) -> dict:
        return self.steps.record()["tasks"]["01-task"]


def numbers(pair: dict, side: str) -> list[int]:
    return [number for number, _, _ in pair[side]]


@given(
    times=st.integers(1, 12),
    concurrency=st.integers(1, 5),
    seed=st.integers(0, 50),
)
def test_all_iterations_are_paired_and_never_run_at_the_same_time(
    times: int, concurrency: int, seed: int
) -> None:
    played = Played(old=times, new=times, concurrency=concurrency, seed=seed).begin().play()
    pairs = played.task["pairs"]
    for side in (OLD, NEW):
        assert [n for pair in pairs for n in sorted(numbers(pair, side))] == list(range(1, times + 1))
    assert all(len(pair[OLD]) == len(pair[NEW]) for pair in pairs)
    assert played.task["alone"] == {}
    assert played.task["notes"] == []


def test_the_order_is_balanced_seeded_and_told() -> None:
    orders = [pair["order"] for pair in Played(old=40, new=40, seed=3).begin().play().task["pairs"]]
    for first, second in zip(orders[::2], orders[1::2], strict=True):
        assert first == second[::-1]  # ABBA or BAAB
    assert {tuple(one) for one in orders[::2]} == {(OLD, NEW), (NEW, OLD)}
    again = Played(old=40, new=40, seed=3).begin().play().task["pairs"]
    assert [pair["order"] for pair in again] == orders
    assert Played(seed=3).steps.record()["seed"] == 3


def test_a_task_begins_when_both_sides_are_there() -> None:
    played = Played().begin(OLD)
    played.ask(OLD)
    assert played.pump() == []
    played.begin(NEW)
    assert played.log[:2] == [(OLD, "begin"), (NEW, "begin")]


def test_no_iteration_runs_while_the_other_side_still_makes_its_users() -> None:
    played = Played().begin()
    played.ask(OLD)
    assert played.pump() == []
    played.ask(NEW)
    assert len(played.pump()) == 1


def test_nothing_is_removed_while_the_other_side_is_measured() -> None:
    played = Played(old=1, new=1).begin()
    played.play()
    finished = [token for token in played.log if token[1] == "finish"]
    assert len(finished) == 2
    assert played.log[-2:] == finished  # after the last iteration of either side


def test_the_longer_side_goes_on_alone_and_the_record_says_so() -> None:
    played = Played(old=2, new=5).begin().play()
    assert [numbers(pair, NEW) for pair in played.task["pairs"]] == [[1], [2]]
    assert [number for number, _, _ in played.task["alone"][NEW]] == [3, 4, 5]
    assert played.log[-2:] == [(OLD, "finish"), (NEW, "finish")]


def test_an_iteration_that_hangs_does_not_hold_up_the_other_side() -> None:
    played = Played().begin()
    played.hung.add(OLD)
    played.ask(OLD)
    played.play()
    assert played.at >= PATIENCE
    assert "old: an iteration did not end within 100 s" in played.task["notes"][0]
    ran = [token for token in played.log if token[0] == NEW and isinstance(token[1], int)]
    assert [number for _, number in ran] == [1, 2, 3, 4]


def test_a_side_that_asks_for_no_turn_does_not_hold_up_the_other_side() -> None:
    played = Played().begin()
    played.hung.add(NEW)
    played.play()
    assert "new: it asked for no turn within 100 s" in played.task["notes"][0]
    assert len(played.task["alone"][OLD]) == 4


def test_a_side_that_moves_is_never_given_up() -> None:
    played = Played(old=3, new=3).begin()
    for _ in range(3):
        for side in (OLD, NEW):
            played.at += PATIENCE * 0.9
            played.ask(side)
        for _ in range(2):
            for token in played.pump():
                played.at += PATIENCE * 0.9
                played.running.remove(token)
                played.steps.done(token, 1.0, failed=False, now=played.at)
    assert len(played.task["pairs"]) == 3
    assert played.task["notes"] == []


@pytest.mark.parametrize("when", ["waiting", "running"])
def test_a_side_that_dies_leaves_the_other_one_alone(when: str) -> None:
    played = Played().begin()
    if when == "running":
        played.ask(OLD)
        played.ask(NEW)
        played.pump()
    played.hung.add(NEW)
    for token in [*played.waiting, *played.running]:
        if token[0] == NEW:
            played.waiting.discard(token)
            played.running.discard(token)
            played.steps.done(token, None, failed=True, now=played.at)
    played.steps.leave(NEW, "its hammer has ended")
    played.play()
    assert played.at < PATIENCE  # nobody waits for a limit
    ran = [number for side, number in played.log if side == OLD and isinstance(number, int)]
    assert ran == [1, 2, 3, 4]
    assert played.steps.record()["sides"][NEW]["left"] == "its hammer has ended"
    # And the next task of the one that is left begins at once.
    played.steps.end(OLD)
    played.steps.begin(OLD, "next", "02-task", PATIENCE, played.at)
    assert played.pump() == ["next"]


def test_a_task_that_crashed_on_one_side_is_run_alone_on_the_other_and_the_next_one_is_paired() -> None:
    played = Played().begin()
    played.steps.end(NEW)
    played.hung.add(NEW)
    played.play()
    assert len(played.task["alone"][OLD]) == 4
    assert len(played.task["pairs"]) == 0
    for side in (OLD, NEW):
        played.steps.end(side)
        played.steps.begin(side, (side, "second"), "02-task", PATIENCE, played.at)
    assert set(played.pump()) == {(OLD, "second"), (NEW, "second")}
    played.steps.ask(OLD, "a", 1, 1, played.at)
    assert played.pump() == []
    played.steps.ask(NEW, "b", 1, 1, played.at)
    assert len(played.pump()) == 1


def test_a_block_begins_without_a_load_generator_that_has_died() -> None:
    played = Played(concurrency=2).begin()
    for side, number in ((OLD, 1), (NEW, 1), (NEW, 2)):
        played.steps.ask(side, (side, number), number, 2, played.at)
        played.waiting.add((side, number))
    assert played.pump() == []
    assert played.steps.deadline(played.at) == GATHER_SECONDS
    played.at = GATHER_SECONDS
    assert played.pump()


def test_an_iteration_whose_process_is_killed_gives_its_turn_back() -> None:
    played = Played(old=1, new=1).begin()
    played.ask(OLD)
    played.ask(NEW)
    (first,) = played.pump()
    played.steps.done(first, None, failed=True, now=1.0)
    (second,) = played.pump()
    assert second[0] != first[0]
    played.steps.done(second, 5.0, failed=False, now=2.0)
    played.pump()
    (pair,) = played.task["pairs"]
    assert pair[first[0]] == [[1, None, True]]
    assert pair[second[0]] == [[1, 5.0, False]]


def noisy(scatter: float, *, slower: float = 1.0, seed: int = 3):
    """Return how long iterations take: one side by a factor slower, each with its own noise."""
    chance = random.Random(seed)  # noqa: S311
    return lambda side, _number: (slower if side == NEW else 1.0) * math.exp(chance.gauss(0, scatter))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_task_ends_on_both_sides_once_its_pairs_are_precise(concurrency: int) -> None:
    played = Played(old=900, new=900, concurrency=concurrency)
    played.seconds = noisy(0.1)
    task = played.begin(until=Until(precision=0.02, warmup=10, least=40)).play().task
    counts = {side: sum(len(pair[side]) for pair in task["pairs"]) for side in (OLD, NEW)}
    assert counts[OLD] == counts[NEW]
    assert 50 < counts[OLD] < 300
    assert task["alone"] == {}
    assert task["notes"] == []
    assert [log for log in played.log if log[1] == "finish"], "both were let go"


def test_precise_pairs_end_a_task_no_earlier_than_its_least_and_imprecise_ones_at_its_most() -> None:
    early = Played(old=100, new=100)
    early.seconds = noisy(0.0001)
    assert len(early.begin(until=Until(0.02, warmup=5, least=60)).play().task["pairs"]) == 61
    late = Played(old=70, new=70)
    late.seconds = noisy(3.0)
    assert len(late.begin(until=Until(0.02, warmup=5, least=30)).play().task["pairs"]) == 70
    few = Played(old=100, new=100)
    few.seconds = noisy(0.0001)
    assert len(few.begin(until=Until(0.02, warmup=5, least=6)).play().task["pairs"]) == 5 + LEAST_PAIRS + 1


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_when_a_task_ends_does_not_depend_on_the_difference(slower: float) -> None:
    lengths = set()
    for factor in (1.0, slower):
        played = Played(old=500, new=500)
        played.seconds = noisy(0.1, slower=factor)
        lengths.add(len(played.begin(until=Until(0.02, warmup=0, least=20)).play().task["pairs"]))
    assert len(lengths) == 1


def test_the_error_is_that_of_the_analysis() -> None:
    chance = random.Random(5)  # noqa: S311
    values = [chance.gauss(0, 0.1) for _ in range(200)]
    assert error_of(values) == pytest.approx(draw_effect(values).error, rel=0.25)
    assert error_of([0.0] * 30) == 0
