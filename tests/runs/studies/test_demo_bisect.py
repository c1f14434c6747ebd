"""The demo of the bisect with real repositories and runs that take no time: found, cut short, and missed."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from bisect_lab import SOON, Killed, archived, carries_two
from git_repositories import git

from perfci import config
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.studies import bisect as bisecting
from perfci.runs.studies import demo_bisect
from perfci.runs.studies.demo_bisect import BisectDemo
from perfci.runs.studies.demo_history import SLOW_FILE, DemoHistory, DemoSourceMissing
from perfci.runs.verdicts.lab_services import LabServices
from perfci.runs.verdicts.one_moment import at_one_moment
from perfci.runs.verdicts.rerun_round import Nodes

PLUGIN = (
    "        if True:\n            net_data = []\n            for net in nets_db:\n                pass\n"
)


class Lab:
    """Stands where `assemble.night` does: slow is neutron with the slow change, and not taken back."""

    def __init__(self, factor=1.8, kill_at=0):
        self.factor, self.kill_at, self.runs = factor, kill_at, 0
        self.unfit = range(0)

    def __call__(self, job, settings, *, label, **_):
        return SimpleNamespace(run=lambda: self.run(job, settings, label))

    def run(self, job, settings, label):
        services = LabServices(settings)
        folder = self.measured(job, settings, label)
        nodes = Nodes(
            lambda job, _stop, _progress: self.measured(job, settings, label, confirms=folder.name),
            SOON + timedelta(days=900),
            lambda _stop: nullcontext(),
        )
        return Aftermath(services).of(ArchivedRun(folder), Stages(Silent()), nodes)

    def measured(self, job, settings, label, confirms=None):
        self.runs += 1
        if self.runs == self.kill_at:
            raise Killed
        services = LabServices(settings)
        exact, step = at_one_moment(job, settings)
        return archived(
            services,
            exact,
            SOON + timedelta(minutes=self.runs),
            self.factor_of(exact.sources.neutron),
            beside=self.factor_of(exact.beside().sources.neutron) if exact.reference is not None else None,
            step=step,
            lab=label,
            confirms=confirms,
            fit=self.runs not in self.unfit,
        )

    def factor_of(self, neutron):
        text = git(neutron.git, "show", f"{neutron.ref}:{SLOW_FILE}")
        return self.factor if "sqlalchemy" in text and not neutron.patches else 1.0


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Return a demo on a lab, with tiny releases."""

    def released(self, name, _version):
        folder = self.scratch / "releases" / name
        (folder / name / "plugins/ml2").mkdir(parents=True)
        (folder / "setup.cfg").write_text(f"[metadata]\nname = {name}\n")
        if name == "neutron":
            (folder / SLOW_FILE).write_text(PLUGIN)
        return folder

    carries_two(monkeypatch, yes=True)
    monkeypatch.setattr(DemoHistory, "_released", released)
    environ = {"PERFCI_STATE_DIR": str(tmp_path / "state"), "PERFCI_INFLUX__URL": "http://127.0.0.1:9"}

    def made(lab):
        for module in (demo_bisect, bisecting):
            monkeypatch.setattr(module, "night", lab)
        return BisectDemo(config.load(environ=environ), "tester", Silent())

    return made


def test_the_slow_change_is_named_proven_and_mailed(demo):
    shown = demo(lab := Lab()).run()
    assert [(one.expected, one.ok) for one in shown.checks if not one.ok] == []
    assert shown.exit_code == 0
    assert shown.picture.read_bytes().startswith(b"\x89PNG")
    assert lab.runs <= 24
    assert len(shown.story.steps) == 9


def test_one_that_was_cut_short_goes_on(demo):
    lab = Lab()
    for kill_at in (3, 14, 20):
        lab.kill_at = kill_at
        with pytest.raises(Killed):
            demo(lab).run()
    lab.kill_at = 0
    shown = demo(lab).run()
    assert [(one.expected, one.ok) for one in shown.checks if not one.ok] == []
    assert lab.runs <= 24 + 3


def test_one_whose_lab_was_not_fit_for_a_while_goes_on(demo):
    lab = Lab()
    lab.unfit = range(15, 18)
    shown = demo(lab).run()
    assert "The same command continues it" in shown.checks[2].found
    assert shown.exit_code == 1
    shown = demo(lab).run()
    assert [(one.expected, one.ok) for one in shown.checks if not one.ok] == []
    assert lab.runs <= 24 + 3


def test_a_change_that_is_not_slow_fails_the_demo(demo):
    shown = demo(Lab(factor=1.0)).run()
    assert shown.exit_code == 1
    assert {one.expected: one.ok for one in shown.checks}["one alert, of neutron"] is False
    assert shown.as_dict()["bisect"] is None


def test_a_release_that_is_another_one_is_said(tmp_path, monkeypatch, demo):
    demo(Lab())
    history = DemoHistory(tmp_path / "git", tmp_path / "work")
    history.begin(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path / "state")}))
    (tmp_path / "work/neutron" / SLOW_FILE).write_text("something else\n")
    with pytest.raises(DemoSourceMissing, match="is another one"):
        history.merge_all()
    assert Path(tmp_path / "git/openstack/neutron").is_dir()
