"""Job files: what is read, what is refused and in which words, what the digest covers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from perfci.lab.errors import NodesUnmatched
from perfci.lab.ledger import Among
from perfci.lab.model import Node
from perfci.runs.jobs.load import JobNotFound, jobs, load_job
from perfci.runs.jobs.model import Job, JobFileInvalid, NodeChoice, Scenario
from perfci.runs.jobs.rally_plan import CloudAccess, make_plan

REPOSITORY = Path(__file__).resolve().parents[3]
OF_OTHER_PROCEDURES = {"base", "dbmigration"}

GOOD = """\
name: night
description: Everything, every night.
cloud:
  kind: embedded
  computes: 10
  variables: {neutron_api_workers: 2}
sources:
  neutron: {git: "https://opendev.org/openstack/neutron", ref: master, patches: [slow.patch]}
  nova: {version: 34.0.0}
nodes: 1
limits:
  deploy: 900
scenarios:
  - task: ports
    times: 40
    concurrency: 2
    warmup: 4
    args: {ports_per_network: 5}
  - task: networks
    times: 20
analysis: {baseline_runs: 8, minimum_effect: 0.05}
mail: {to: [team@example.org]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks").mkdir()
    for task in ("ports", "networks"):
        (tmp_path / "tasks" / f"{task}.yml.j2").write_text("---\n")
    return tmp_path


def problems(folder: Path, text: str, name: str = "night") -> list[str]:
    """Load a job that must fail; return its lines without the folder."""
    (folder / f"{name}.yml").write_text(text)
    with pytest.raises(JobFileInvalid) as caught:
        load_job(name, folder)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_a_job_is_read_by_name_and_by_path(folder: Path) -> None:
    (folder / "night.yml").write_text(GOOD)
    job = load_job("night", folder)
    assert job == load_job(folder / "night.yml", folder)
    assert job.scenarios[0].args == {"ports_per_network": 5}
    assert job.scenarios[1].concurrency == 1
    assert job.limits.deploy == 900
    assert job.limits.hammer == 3600
    assert job.sources.neutron is not None
    assert job.sources.neutron.patches == ("slow.patch",)
    assert job.mail is not None
    assert job.mail.to == ("team@example.org",)


def test_what_is_archived_is_the_same_job(folder: Path) -> None:
    (folder / "night.yml").write_text(GOOD)
    job = load_job("night", folder)
    again = Job.model_validate(yaml.safe_load(yaml.safe_dump(job.resolved())))
    assert again == job


def test_an_unknown_job_lists_those_there_are(folder: Path) -> None:
    (folder / "night.yml").write_text(GOOD)
    (folder / "storm.yaml").write_text(GOOD)
    assert jobs(folder) == ("night", "storm")
    with pytest.raises(JobNotFound, match="did you mean 'night'"):
        load_job("nihgt", folder)
    with pytest.raises(JobNotFound, match="known: night, storm"):
        load_job("zzz", folder)
    with pytest.raises(JobNotFound):
        load_job(str(folder / "none.yml"), folder)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("times: 40", "times: forty", "night.yml:15: scenarios[0].times: expected a whole number from 1 to 100000, got 'forty'"),
        ("times: 40", "times: 0", "night.yml:15: scenarios[0].times: expected a whole number from 1 to 100000, got 0"),
        ("times: 40", "times: yes", "night.yml:15: scenarios[0].times: expected a whole number from 1 to 100000, got True"),
        ("times: 40", "times:", "night.yml:15: scenarios[0].times: expected a whole number from 1 to 100000, got nothing"),
        ("    times: 20\n", "", "night.yml:19: scenarios[1].times: missing: expected a whole number from 1 to 100000"),
        ("warmup: 4", "warmpu: 4", "night.yml:17: scenarios[0].warmpu: unknown key; did you mean 'warmup'?"),
        ("kind: embedded", "kind: kolla", "night.yml:4: cloud.kind: expected 'embedded' or 'multinode' or 'devstack', got 'kolla'"),
        ("kind: embedded", "kind: embedded\n  compute_nodes: 1", "night.yml:3: cloud: compute_nodes: only multinode has some"),
        ("kind: embedded", "kind: multinode\n  services: [keystone]", "night.yml:3: cloud: services: multinode has all of them"),
        ("kind: embedded", "kind: multinode\n  compute_nodes: 2", "night.yml:1: cloud.compute_nodes: of 1 nodes, 1 to 1 can be computes, got 2"),
        ("kind: embedded", "kind: embedded\n  virt: libvirt", "night.yml:3: cloud: virt: only multinode has libvirt"),
        ("kind: embedded", "kind: multinode\n  virt: libvirt", "night.yml:3: cloud: computes: with libvirt each compute node has one; leave it out"),
        ("deploy: 900", "deplyo: 900", "night.yml:12: limits.deplyo: unknown key; did you mean 'deploy'?"),
        ("nova: {", "nove: {", "night.yml:9: sources.nove: unknown key; did you mean 'nova'?"),
        ("version: 34.0.0", "version: 34.0", "night.yml:9: sources.nova.version: expected text that is not empty, got 34.0"),
        (", ref: master", "", "night.yml:8: sources.neutron: git and ref belong together"),
        ("{version: 34.0.0}", "{version: 34.0.0, git: x, ref: y}", "night.yml:9: sources.nova: expected either version, or git with ref"),
        ("0.05", "small", "night.yml:21: analysis.minimum_effect: expected a number from 0 to 10, got 'small'"),
        ("name: night", "name: day", "night.yml:1: name: expected 'night', the file's name, got 'day'"),
        ("task: networks", "task: netwroks", "night.yml:19: scenarios[1].task: no template tasks/netwroks.yml.j2; did you mean 'networks'?"),
        ("[team@example.org]", "team@example.org", "night.yml:22: mail.to: expected a list of at least 1, each text such as 'team@example.org', got 'team@example.org'"),
        ("[team@example.org]", "[a@example.org, tëam@example.org]", "night.yml:22: mail.to[1]: expected text such as 'team@example.org', got 'tëam@example.org'"),
        ("nodes: 1", "nodes: 1\nnodes: 2", "night.yml:11: nodes: occurs twice; first in line 10"),
        ("{ports_per_network: 5}", "[5]", "night.yml:18: scenarios[0].args: expected a mapping (key: value), got [5]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_line_field_and_expectation(
    folder: Path, old: str, new: str, problem: str
) -> None:
    assert problems(folder, changed(old, new)) == [problem]


def test_a_job_whose_name_says_that_it_is_no_night_is_refused(folder: Path) -> None:
    (folder / "night-compare.yml").write_text(changed("name: night", "name: night-compare"))
    with pytest.raises(JobFileInvalid, match=r"name: runs of jobs that end in .*-compare.* are never judged"):
        load_job("night-compare", folder)


@pytest.mark.parametrize(
    ("text", "count", "wish"),
    [
        ("3", 3, 3),
        ("{count: 2}", 2, 2),
        ("{names: [b, a]}", 2, Among(frozenset("ab"), 2)),
        ("{names: [b, a, c], count: 2}", 2, Among(frozenset("abc"), 2)),
        ("""{where: 'model == "r640" and rack != "3"'}""", 1, Among(frozenset("ac"), 1)),
        ("""{where: 'name in ["c"]', count: 1}""", 1, Among(frozenset("c"), 1)),
        ("{count: 2, spares: 1}", 2, 2),
        ("{names: [b, a, c], spares: 1}", 2, Among(frozenset("abc"), 2)),
    ],
)
def test_which_nodes_a_job_takes(folder: Path, text: str, count: int, wish: object) -> None:
    (folder / "night.yml").write_text(changed("nodes: 1", f"nodes: {text}"))
    job = load_job("night", folder)
    lab = [
        Node("a", labels={"model": "r640"}),
        Node("b", labels={"model": "r640", "rack": "3"}),
        Node("c", labels={"model": "r640", "rack": "4"}),
        Node("d"),
    ]
    assert (job.nodes.count, job.nodes.of(lab)) == (count, wish)
    assert Job.model_validate(job.resolved()) == job


def test_spares_are_asked_for_on_top(folder: Path) -> None:
    choice = NodeChoice(names=("a", "b", "c"), count=1, spares=2)
    assert [choice.of([], spares) for spares in (2, 1, 0)] == [
        Among(frozenset("abc"), count) for count in (3, 2, 1)
    ]
    assert NodeChoice(count=2, spares=1).of([], 1) == 3
    without, beside = (load_job_with(folder, text) for text in ("2", "{count: 2, spares: 1}"))
    assert without.job_digest == beside.job_digest


def load_job_with(folder: Path, nodes: str) -> Job:
    (folder / "night.yml").write_text(changed("nodes: 1", f"nodes: {nodes}"))
    return load_job("night", folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{where: 'model =='}", "nodes.where: expected an expression such as"),
        ("{where: 'a == b', names: [a]}", "give where or names, not both"),
        ("{names: [a, b], count: 3}", "names: expected at least 3 different ones, got a, b"),
        ("{names: [a, b], count: 2, spares: 1}", "names: expected at least 3 different ones, got a, b"),
        ("{count: 2, spares: -1}", "nodes.spares: expected"),
        ("{count: 2, spares: some}", "nodes.spares: expected"),
        ("{names: [a, a]}", "names: expected at least 2 different ones, got a, a"),
        ("{cuont: 3}", "nodes.cuont: unknown key; did you mean 'count'?"),
        ("0", "nodes.count: expected a whole number from 1 to 1000, got 0"),
    ],
)
def test_nodes_that_no_lab_could_give(folder: Path, text: str, words: str) -> None:
    (problem,) = problems(folder, changed("nodes: 1", f"nodes: {text}"))
    assert problem.startswith("night.yml:10: ")
    assert words in problem


def test_a_kind_of_node_that_the_lab_does_not_have() -> None:
    choice = NodeChoice(where='model == "r740"')
    with pytest.raises(NodesUnmatched, match="labels there are: model=r640"):
        choice.of([Node("a", labels={"model": "r640"})])


def test_two_scenarios_that_would_share_a_series(folder: Path) -> None:
    text = changed("  - task: networks\n    times: 20\n", "  - {task: networks, times: 2}\n" * 2)
    assert problems(folder, text) == [
        "night.yml:13: scenarios: item 2 (networks) is the same as item 1: change its args, or raise times there"
    ]


def test_everything_wrong_is_told_at_once_in_the_files_order(folder: Path) -> None:
    text = (
        changed("nodes: 1", "nodes: none")
        .replace("task: ports", "task: prts")
        .replace("times: 20", "tims: 20")
    )
    assert [line.split(": ")[:2] for line in problems(folder, text)] == [
        ["night.yml:10", "nodes.count"],
        ["night.yml:14", "scenarios[0].task"],
        ["night.yml:19", "scenarios[1].times"],
        ["night.yml:20", "scenarios[1].tims"],
    ]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "night.yml:1: expected a mapping"),
        ("- a\n", "night.yml:1: expected a mapping"),
        ("name: night\nscenarios: [\n", "night.yml:3: not YAML: "),
        ("name: !!python/object:os.system x\n", "night.yml:1: not YAML: could not determine a constructor"),
        ("name: &a [*a]\n", "night.yml:1: not YAML: a value contains itself"),
        ("name: night\x07\n", "night.yml:1: not YAML: "),
        ("name: night\ndescription: 2026-13-45\n", "night.yml:1: not YAML: month must be in 1..12"),
        ("? [a]\n: b\n", "night.yml:1: not YAML: found unhashable key"),
        ("[" * 5000, "night.yml:1: not YAML: nested too deeply"),
        ("name: !!bool maybe\n", "night.yml:1: not YAML: a value does not fit the tag before it"),
        ("name: !!timestamp soon\n", "night.yml:1: not YAML: a value does not fit the tag before it"),
        ('name: !!int ""\n', "night.yml:1: not YAML: a value does not fit the tag before it"),
        ("a: 1\n---\nb: 1\n", "night.yml:2: not YAML: "),
    ],
)
def test_files_that_are_no_job_at_all(folder: Path, text: str, start: str) -> None:
    assert problems(folder, text)[0].startswith(start)


def test_a_file_that_is_not_text(folder: Path) -> None:
    (folder / "night.yml").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(JobFileInvalid, match="not text in UTF-8"):
        load_job("night", folder)


def load(folder: Path, text: str) -> Job:
    (folder / "night.yml").write_text(text)
    return load_job("night", folder)


MIGRATE = "name: night\nprocedure: dbmigration\ndbmigration: {databases: {glance: {tables: {images: 1}}}}\n"
UPGRADE = "name: night\nprocedure: upgrade\nbase: {nova: {version: 33.0.0}}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: night\n", "scenarios: missing (procedure: hammer)"),
        (GOOD + "base: {}\n", "base: only with procedure: upgrade (procedure: hammer)"),
        (UPGRADE.replace("base", "#"), "base: missing (procedure: upgrade)"),
        (MIGRATE + "base: {}\n", "base: only with procedure: upgrade (procedure: dbmigration)"),
        (MIGRATE.replace("glance:", "cinder:"), "dbmigration.databases.cinder"),
        (MIGRATE.replace("images: 1", "images: 0"), "dbmigration.databases.glance.tables.images"),
        (MIGRATE.replace("images: 1", "'im ages': 1"), "dbmigration.databases.glance.tables"),
        (UPGRADE + "cloud: {services: [keystone, glance]}\n", "cloud.services: an upgrade needs a whole"),
        (
            UPGRADE.replace("nova: {version: 33.0.0}", "neutron: {filters: [{name: a, source: b, factory: 'c:d'}]}"),
            "base: filters are a change of the target",
        ),
        (UPGRADE + "exceptions: [{action: x, bug: later}]\n", "exceptions[0].bug"),
        (UPGRADE + "reference: {}\n", "reference: only an embedded cloud with the procedure hammer"),
        (GOOD.replace("kind: embedded", "kind: devstack") + "reference: {}\n", "reference: only an embedded"),
    ],
)  # fmt: skip
def test_a_job_has_what_its_procedure_needs(folder: Path, text: str, problem: str) -> None:
    assert any(problem in line for line in problems(folder, text))


def test_the_digest_covers_what_an_upgrade_begins_with_and_what_a_database_holds(folder: Path) -> None:
    upgrade, migrate = load(folder, UPGRADE).job_digest, load(folder, MIGRATE).job_digest
    assert upgrade != load(folder, UPGRADE.replace("33.0.0", "33.0.1")).job_digest
    assert migrate != load(folder, MIGRATE.replace("images: 1", "images: 2")).job_digest
    known = "exceptions: [{action: 'nova.*', bug: 'https://example.org/1'}]\n"
    assert upgrade == load(folder, UPGRADE + known).job_digest


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("every night", "each night", True),
        ("deploy: 900", "deploy: 901", True),
        ("minimum_effect: 0.05", "minimum_effect: 0.1", True),
        ("team@", "others@", True),
        ("version: 34.0.0", "version: 34.0.1", True),
        ("    times: 20", "    times: 20\n    timeout_seconds: 60", True),
        ("times: 40", "times: 41", False),
        ("concurrency: 2", "concurrency: 3", False),
        ("warmup: 4", "warmup: 5", False),
        ("ports_per_network: 5", "ports_per_network: 6", False),
        ("computes: 10", "computes: 11", False),
        ("neutron_api_workers: 2", "neutron_api_workers: 3", False),
        ("nodes: 1", "nodes: 2", False),
    ],
)
def test_the_digest_covers_what_is_measured_and_nothing_else(
    folder: Path, old: str, new: str, *, same: bool
) -> None:
    assert (load(folder, GOOD).job_digest == load(folder, changed(old, new)).job_digest) is same


def test_a_cloud_on_one_node_keeps_the_digest_that_its_history_has(folder: Path) -> None:
    assert set(load(folder, GOOD).cloud.shape) == {"kind", "computes", "services", "variables"}


def test_how_many_nodes_are_computes_is_part_of_the_digest(folder: Path) -> None:
    spread = changed("kind: embedded", "kind: multinode").replace("nodes: 1", "nodes: 4")
    fewer = spread.replace("kind: multinode", "kind: multinode\n  compute_nodes: 1")
    assert load(folder, spread).job_digest != load(folder, fewer).job_digest


def test_a_cloud_of_real_servers_is_another_one_and_stays_it_in_the_archive(folder: Path) -> None:
    spread = changed("  computes: 10\n", "").replace("kind: embedded", "kind: multinode")
    fake, real = (
        load(folder, spread.replace("multinode", f"multinode\n  virt: {v}")) for v in ("fake", "libvirt")
    )
    assert fake.job_digest == load(folder, spread).job_digest != real.job_digest
    assert "computes" not in real.cloud.shape
    assert Job.model_validate(yaml.safe_load(yaml.safe_dump(real.resolved()))) == real


def test_an_upgrade_has_the_fake_driver(folder: Path) -> None:
    cloud = {"kind": "multinode", "virt": "libvirt"}
    with pytest.raises(ValidationError, match=r"cloud\.virt: an upgrade needs a cloud with the fake driver"):
        Job.model_validate(
            {"name": "try", "cloud": cloud, "procedure": "upgrade", "base": {"nova": {"version": "33"}}}
        )


def test_each_compute_node_has_a_compute(folder: Path) -> None:
    text = changed("kind: embedded", "kind: multinode").replace("nodes: 1", "nodes: 4")
    assert problems(folder, text.replace("computes: 10", "computes: 1")) == [
        "night.yml:1: cloud.computes: 2 compute nodes need at least as many, got 1"
    ]


@settings(max_examples=200, deadline=None)
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "scenarios", "task", "times", "cloud", "sources", "nova", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_file_makes_anything_but_a_told_error(
    tmp_path_factory: pytest.TempPathFactory, data: object
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "night.yml").write_text(yaml.safe_dump(data, allow_unicode=True))
    with pytest.raises(JobFileInvalid, match=r"night\.yml:\d+: "):
        load_job("night", folder)


def test_only_the_last_task_may_leave_things(folder: Path) -> None:
    last = GOOD.replace("    times: 20\n", "    times: 20\n    clean: false\n")
    (folder / "night.yml").write_text(last)
    assert [one.clean for one in load_job("night", folder).scenarios] == [True, False]
    assert load_job("night", folder).job_digest == digest_of(folder, GOOD)
    (line,) = problems(folder, GOOD.replace("    times: 40\n", "    times: 40\n    clean: false\n"))
    assert "item 0 (ports): only the last one may leave things (clean: false)" in line


def digest_of(folder: Path, text: str) -> str:
    (folder / "night.yml").write_text(text)
    return load_job("night", folder).job_digest


@pytest.mark.parametrize("procedure", ["dbmigration", "upgrade"])
def test_the_examples_of_the_other_procedures_are_jobs(folder: Path, procedure: str) -> None:
    document = (REPOSITORY / "docs" / "upgrade-and-migrations.md").read_text()
    example = next(
        block.partition("```")[0]
        for block in document.split("```yaml\n")[1:]
        if f"procedure: {procedure}" in block
    )
    (folder / "mine.yml").write_text(example)
    job = load_job("mine", folder)
    assert job.procedure == procedure
    assert Job.model_validate(yaml.safe_load(yaml.safe_dump(job.resolved()))) == job


@pytest.mark.parametrize("name", jobs(REPOSITORY / "jobs"))
def test_the_jobs_that_come_with_the_project_load(name: str) -> None:
    job = load_job(name, REPOSITORY / "jobs")
    assert job.description
    # Each argument is known to its task's template.
    access = CloudAccess(clouds_file=Path("clouds.yaml"), image_file=Path("image"))
    scenarios = [scenario.model_dump() for scenario in job.scenarios]
    plan = make_plan(scenarios, templates=REPOSITORY / "jobs" / "tasks", output=Path("run"), cloud=access)
    assert [task["task"] for task in plan["tasks"]] == [scenario.task for scenario in job.scenarios]


def test_the_jobs_of_the_project_are_there() -> None:
    assert {"nightly", "largeops", "smoke", "dbmigration", "upgrade"} <= set(jobs(REPOSITORY / "jobs"))


ANY_CLOUD = """\
name: night
scenarios:
  - {task: ports, times: 40}
"""


def test_a_job_can_be_run_on_another_kind_of_cloud(folder: Path) -> None:
    job = load(folder, ANY_CLOUD)
    other = job.on("devstack")
    assert (other.name, other.cloud.kind, other.limits.deploy) == ("night-devstack", "devstack", 3600)
    assert other.scenarios == job.scenarios
    assert other.job_digest != job.job_digest
    assert job.on("embedded") is job


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nodes: 3\ncloud: {computes: 1}", "cloud.computes: 2 sub-nodes need at least as many, got 1"),
        ("cloud: {services: [keystone]}", "devstack has all of them"),
        ("sources: {nova: {version: '1'}}", "sources.nova: devstack takes git and ref alone"),
        ("sources: {nova: {git: g, ref: r, patches: [a]}}", "sources.nova: devstack takes git and ref alone"),
    ],
)
def test_what_devstack_can_not_have_is_told(folder: Path, line: str, problem: str) -> None:
    job = load(folder, f"{ANY_CLOUD}{line}\n")
    with pytest.raises(JobFileInvalid, match=problem):
        job.on("devstack")


def test_devstack_takes_several_nodes_and_one_keeps_its_digest(folder: Path) -> None:
    several = load(folder, f"{ANY_CLOUD}nodes: 3\ncloud: {{computes: 2}}\n").on("devstack")
    assert (several.nodes.count, several.has_parts) == (3, True)
    one = load(folder, ANY_CLOUD).on("devstack")
    assert not one.has_parts
    assert one.job_digest == "4e2419c98ca1"


def test_nothing_of_a_data_plane_is_measured_on_devstack(folder: Path) -> None:
    (folder / "tasks" / "dataplane-east-west.yml.j2").touch()
    job = load(folder, ANY_CLOUD.replace("task: ports", "task: dataplane-east-west"))
    with pytest.raises(JobFileInvalid, match="dataplane-east-west needs a data plane"):
        job.on("devstack")


def test_until_is_part_of_what_is_measured_and_at_least_times() -> None:
    plain = Scenario.model_validate({"task": "ports", "times": 20})
    assert "until" not in plain.shape, "what jobs without it measure keeps its digest"
    wanted = {"task": "ports", "times": 20, "until": {"precision": 0.02, "most": 200}}
    assert Scenario.model_validate(wanted).shape["until"] == {"precision": 0.02, "most": 200}
    with pytest.raises(ValidationError, match="10 is less than times, 20"):
        Scenario.model_validate({**wanted, "until": {"precision": 0.02, "most": 10}})


def test_a_reference_has_the_code_under_test_but_where_it_names_another(folder: Path) -> None:
    same = load(folder, GOOD + "reference: {}\n")
    assert same.beside().sources == same.sources
    assert same.beside().reference is None
    other = load(folder, GOOD + "reference: {neutron: {}, keystone: {version: 28.0.0}}\n").beside().sources
    assert other.neutron is not None
    assert other.neutron.git is None  # the pinned release
    assert other.keystone is not None
    assert other.keystone.version == "28.0.0"
    assert other.nova == same.sources.nova


def test_a_second_cloud_is_another_environment_whatever_its_code_is(folder: Path) -> None:
    one, same, other = (
        load(folder, GOOD + more).job_digest
        for more in ("", "reference: {}\n", "reference: {neutron: {version: 28.0.0}}\n")
    )
    assert one != same
    assert same == other


def test_a_job_with_a_reference_is_archived_as_it_was(folder: Path) -> None:
    job = load(folder, GOOD + "reference: {neutron: {}}\n")
    assert Job.model_validate(job.resolved()) == job
