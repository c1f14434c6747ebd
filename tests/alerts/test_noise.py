"""The weekly list of series whose noise grows."""

from __future__ import annotations

from nights import NETWORKS, PORTS, run_id, seconds_key

from perfci.alerts.noise import noise_id, noise_story
from perfci.alerts.plain import render
from perfci.alerts.settings import MailSettings
from perfci.analysis.growth import Growth

SETTINGS = MailSettings("perfci@example.org", ("team@example.org",), ("admins@example.org",))


def growth(scenario, ratio):
    return Growth(
        seconds_key("total", scenario), 0.02, 0.02 * ratio, ratio, ratio / 1.5, ratio * 1.5, 0.001, run_id(7)
    )


def test_a_week_has_one_list():
    monday, sunday, next_monday = run_id(2), run_id(8), run_id(9)  # 2026-11-02 is a Monday
    assert noise_id("lab", "job", monday) == noise_id("lab", "job", sunday)
    assert noise_id("lab", "job", sunday) != noise_id("lab", "job", next_monday)
    assert noise_id("lab", "job", monday) != noise_id("lab", "other", monday)


def test_the_mail_names_the_worst_and_says_what_to_do():
    story = noise_story(
        [growth(PORTS, 3.1), growth(NETWORKS, 1.9)],
        lab="embedded",
        job="nightly",
        run_id=run_id(21),
        settings=SETTINGS,
    )
    text = render(story).replace("\u00a0", " ")
    assert story.subject.replace("\u00a0", " ") == "[perfci] nightly: the noise of 2 series grows on embedded"
    assert "3.1 times as much" in text
    assert text.index(PORTS) < text.index(NETWORKS)
    assert "perfci calibrate nightly --from-history" in text
    assert "admins@example.org" in story.foot
