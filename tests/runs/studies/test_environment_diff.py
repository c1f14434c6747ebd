"""What differs between two environments."""

from __future__ import annotations

from perfci.runs.studies.environment_diff import Difference, environment_differences


def run(digest: str = "e1", nodes: tuple[str, ...] = ("node-1",), **facts: object) -> dict:
    return {"environment": {"digest": digest, "facts": facts}, "nodes": list(nodes)}


def test_equal_ones_do_not_differ() -> None:
    assert environment_differences(run(cpu={"flags": ["sse2"]}), run(cpu={"flags": ["sse2"]})) == ()


def test_each_place_is_named_with_both_values() -> None:
    before = run(nodes_={"node-1": {"network": {"eno1": {"mtu": "1500", "speed": "25000"}}}})
    after = run("e2", nodes_={"node-1": {"network": {"eno1": {"mtu": "9000", "speed": "25000"}}}})
    assert environment_differences(before, after) == (
        Difference("facts.nodes_.node-1.network.eno1.mtu", "1500", "9000"),
    )


def test_of_lists_only_what_came_and_went() -> None:
    before, after = run(flags=["a", "b", "c"]), run("e2", flags=["b", "c", "d"])
    assert environment_differences(before, after) == (Difference("facts.flags", "a", "d"),)


def test_an_order_that_changed_is_a_difference() -> None:
    before, after = run(line=["a", "b"]), run("e2", line=["b", "a"])
    assert environment_differences(before, after) == (Difference("facts.line", "a, b", "b, a"),)


def test_what_is_missing_is_empty() -> None:
    before, after = run(memory={"modules": [{"slot": "A1"}]}), run("e2", memory={})
    assert environment_differences(before, after) == (
        Difference("facts.memory.modules", '[{"slot": "A1"}]', ""),
    )


def test_other_nodes_and_other_jobs_are_told() -> None:
    assert environment_differences(run(), run("e2", ("node-2",))) == (
        Difference("nodes", "node-1", "node-2"),
    )
    (job,) = environment_differences(run("e1"), run("e2"))
    assert job.place == "job"


def test_a_run_that_was_killed_early_has_no_facts() -> None:
    killed = {"environment": {"digest": "e0", "facts": None}, "nodes": ["node-1"]}
    assert environment_differences(killed, run(kernel="6.1")) == (Difference("facts.kernel", "", "6.1"),)
