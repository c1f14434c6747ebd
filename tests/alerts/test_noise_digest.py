"""The weekly list of series whose noise grows."""

from __future__ import annotations

from nights import NETWORKS, PORTS, run_id, seconds_key

from perfci.alerts.mail_contents import tell
from perfci.alerts.mail_context import MailContext
from perfci.alerts.model import NotificationKind
from perfci.alerts.noise_digest import noise_grows
from perfci.alerts.plain import render
from perfci.alerts.settings import MailSettings
from perfci.analysis.noise_trend import Growth

SETTINGS = MailSettings("perfci@example.org", ("team@example.org",), ("admins@example.org",))


def growth(scenario, ratio):
    return Growth(
        seconds_key("total", scenario), 0.02, 0.02 * ratio, ratio, ratio / 1.5, ratio * 1.5, 0.001, run_id(7)
    )


def told(*growing, lab="embedded", job="nightly", night=21):
    return noise_grows(growing, lab=lab, job=job, run_id=run_id(night))


def test_a_week_has_one_list():
    monday, sunday, next_monday = (told(night=night).id for night in (2, 8, 9))  # 2026-11-02 is a Monday
    assert monday == sunday
    assert sunday != next_monday
    assert monday != told(night=2, job="other").id
    assert monday != told(night=2, lab="other").id


def test_the_mail_names_the_worst_and_says_what_to_do():
    notification = told(growth(PORTS, 3.1), growth(NETWORKS, 1.9))
    assert notification.kind is NotificationKind.NOISE
    assert notification.by_mail
    story = tell(notification, MailContext(), SETTINGS)
    text = render(story).replace("\u00a0", " ")
    assert story.subject.replace("\u00a0", " ") == "[perfci] nightly: the noise of 2 series grows on embedded"
    assert "3.1 times as much" in text
    assert text.index(PORTS) < text.index(NETWORKS)
    assert "perfci calibrate nightly --from-history" in text
    assert "admins@example.org" in story.foot
