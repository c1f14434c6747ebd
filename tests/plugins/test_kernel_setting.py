"""Settings of the kernel: in effect, left alone, or not available, and never without saying which."""

from pathlib import Path

import pytest


@pytest.fixture
def kernel_setting(plugin):
    return plugin("kernel_setting")


@pytest.fixture
def outcome(kernel_setting):
    def call(files, value, *, check=False, **more):
        params = {
            "files": [str(f) for f in files],
            "value": value,
            "same_as": [],
            "some": False,
            "missing": "it is a VM",
        }
        setting, diff = kernel_setting.outcome({**params, **more}, check=check)
        return setting, diff["before"] != diff["after"]

    return call


@pytest.fixture
def policies(tmp_path):
    for number in range(2):
        folder = tmp_path / f"policy{number}"
        folder.mkdir()
        (folder / "scaling_governor").write_text("powersave\n")
    return tmp_path / "policy*" / "scaling_governor"


def test_every_file_gets_the_value_once(outcome, policies, tmp_path):
    assert outcome([policies], "performance") == ({"state": "in effect", "value": "performance"}, True)
    assert (tmp_path / "policy1" / "scaling_governor").read_text() == "performance"
    assert outcome([policies], "performance") == ({"state": "in effect", "value": "performance"}, False)


def test_nothing_is_wanted(outcome, policies, tmp_path):
    (tmp_path / "policy1" / "scaling_governor").write_text("ondemand\n")
    assert outcome([policies], "") == ({"state": "left alone", "value": "ondemand, powersave"}, False)


def test_the_first_pattern_that_matches_counts(outcome, policies, tmp_path):
    found, _ = outcome([tmp_path / "no_turbo", policies], "performance")
    assert found["state"] == "in effect"


def test_what_is_missing_is_told_with_its_reason(outcome, tmp_path):
    found, changed = outcome([tmp_path / "none"], "1")
    assert (found["state"], changed) == ("not available", False)
    assert found["why"] == f"no {tmp_path / 'none'}: it is a VM"


def test_the_chosen_one_of_several_is_the_value(kernel_files, tmp_path):
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    assert kernel_files.read(path) == "madvise"


def test_a_value_that_is_as_good_is_left(outcome, tmp_path):
    path = tmp_path / "control"
    path.write_text("notsupported\n")
    found, changed = outcome([path], "off", same_as=["notsupported"])
    assert (found, changed) == ({"state": "in effect", "value": "notsupported"}, False)
    assert path.read_text() == "notsupported\n"


def test_a_file_that_cannot_be_written_is_not_available(outcome):
    found, changed = outcome(["/proc/version"], "1")
    assert (found["state"], changed) == ("not available", False)
    assert found["why"].startswith("/proc/version: ")


def test_a_value_that_does_not_stay_is_not_available(outcome):
    found, _ = outcome(["/dev/null"], "1")
    assert found == {"state": "not available", "why": "/dev/null stays ''"}


def test_some_may_refuse(outcome, policies):
    files = ["/dev/null", *sorted(Path(policies.parents[1]).glob("policy*/scaling_governor"))]
    folder = policies.parents[1] / "irq"
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / str(number)).symlink_to(file)
    assert outcome([folder / "*"], "0")[0]["state"] == "not available"
    assert outcome([folder / "*"], "1", some=True)[0] == {"state": "in effect", "value": "1"}


def test_if_all_refuse_it_is_not_available(outcome):
    assert outcome(["/dev/null"], "1", some=True)[0]["state"] == "not available"


def test_in_check_mode_nothing_is_written(outcome, policies, tmp_path):
    (tmp_path / "policy1" / "scaling_governor").write_text("performance\n")
    assert outcome([policies], "performance", check=True) == (
        {"state": "in effect", "value": "performance"},
        True,
    )
    assert (tmp_path / "policy0" / "scaling_governor").read_text() == "powersave\n"
    outcome([policies], "performance")
    assert outcome([policies], "performance", check=True)[1] is False
    assert outcome([tmp_path / "none"], "1", check=True)[0]["state"] == "not available"


def test_the_difference_names_each_file(kernel_setting, policies, tmp_path):
    given = {"files": [str(policies)], "value": "performance", "same_as": [], "some": False, "missing": ""}
    _, diff = kernel_setting.outcome(given, check=True)
    assert diff["before"].splitlines()[0] == f"{tmp_path}/policy0/scaling_governor: powersave"
    assert diff["after"].splitlines()[1] == f"{tmp_path}/policy1/scaling_governor: performance"
