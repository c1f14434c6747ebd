"""The weekly list of series whose noise grows, for the people who look after the lab. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.alerts.document import MailDocument, MailTone, Paragraph, Row, Section, Steps, Table
from perfci.alerts.mail_sections import ROWS, recipients, trend_step
from perfci.alerts.model import Audience, Notification, NotificationKind
from perfci.wording import (
    NBSP,
    action_name,
    counted,
    run_day,
    run_time,
    scenario_name,
    several_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.alerts.settings import MailSettings
    from perfci.analysis.noise_trend import Growth


def noise_grows(growing: Sequence[Growth], *, lab: str, job: str, run_id: str) -> Notification:
    """Return the list of the week in which a run was; its id is the week's, so that the outbox takes one."""
    when = run_time(run_id)
    week = f"{when:%G-W%V}" if when is not None else run_id
    return Notification(
        id=f"noise-{lab}-{job}-{week}",
        kind=NotificationKind.NOISE,
        audience=Audience.ADMINS,
        lab=lab,
        job=job,
        run_id=run_id,
        growing=tuple(growing),
    )


def noise_story(notification: Notification, settings: MailSettings) -> MailDocument:
    """Say which series measure worse than before: at least one, the worst first."""
    growing, lab, job = notification.growing, notification.lab, notification.job
    worst = growing[0]
    series = counted(len(growing), "series")
    several = several_arguments(one.key for one in growing)
    rows = tuple(
        Row(
            action_name(one.key),
            scenario_name(one.key, several),
            (
                f"{100 * one.past:.1f}{NBSP}%",
                f"{100 * one.recent:.1f}{NBSP}%",
                f"{one.ratio:.1f}",
                f"{one.low:.1f}{NBSP}…{NBSP}{one.high:.1f}",
            ),
        )
        for one in growing[:ROWS]
    )
    table = Table("series", ("deviation then", "now", "ratio", "95 % interval"), rows, strong=2)
    method = (
        "perfci compares the differences between neighbouring runs of the last two weeks with those of "
        "the two months before, in the same environment. The table lists the series whose noise has "
        "certainly grown by a quarter or more; at most 5 % of them are false."
    )
    steps = Steps(
        (
            trend_step(worst.key, settings),
            ("See how small a change every series can show now:", f"perfci calibrate {job} --from-history"),
            ("See whether the lab was fit to measure:", "perfci run list"),
        )
    )
    return MailDocument(
        subject=f"[perfci] {job}: the noise of {series} grows on {lab}",
        tone=MailTone.LAB,
        verdict=(
            f"{action_name(worst.key)} scatters {worst.ratio:.1f} times as much as before "
            f"{run_day(worst.since)}; {series} of {job} on {lab} can now show only larger changes."
        ),
        sections=(
            Section("What grows", (table,)),
            Section("How it was determined", (Paragraph(method),)),
            Section("What you can do", (steps,)),
        ),
        foot=f"perfci · lab {lab} · job {job} · run {notification.run_id} · sent to "
        f"{', '.join(recipients(Audience.ADMINS, settings)) or 'nobody'}",
    )
