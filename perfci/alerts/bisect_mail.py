"""The mail that says which change it was, in the thread of its alert. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.alerts.bisect_chart import describe, draw
from perfci.alerts.document import MailDocument, MailTone, Paragraph, Picture, Row, Section, Steps, Table
from perfci.projects import PROJECTS
from perfci.wording import MISSING, counted, quantity

if TYPE_CHECKING:
    from perfci.alerts.bisect_story import BisectStory
    from perfci.alerts.document import Block
    from perfci.alerts.model import Alert

_METHOD = (
    "perfci measured the good and the bad end first, then the revisions between them that tell it "
    "most, each in a fresh deployment. After each measurement it computes how likely each change is "
    "the cause, how likely none is, and how likely several are. It names a change at a probability "
    "of at least 99 %, and only after two proofs in separate runs: the change against its parent, "
    "and the newest revision with the change reverted."
)


def bisect_document(story: BisectStory, alert: Alert, to: tuple[str, ...]) -> MailDocument:
    """Return what is to be said. What strangers wrote is one line each, to be escaped."""
    sections = [
        Section("Which change", tuple(_which(story))),
        Section("What was measured", tuple(_measured(story))),
    ]
    if story.inside is not None:
        sections.append(Section(f"Inside {story.inside.title}", tuple(_within(story.inside))))
    sections += [
        Section("How it was determined", (Paragraph(_METHOD), *(Paragraph(one) for one in story.remarks))),
        Section("What you can do", (Steps(tuple(_steps(story, alert))),)),
    ]
    return MailDocument(
        subject=f"[perfci] {alert.job}: {story.headline}",
        tone=MailTone.GOOD if story.end == "none" else MailTone.BAD,
        verdict=story.verdict,
        sections=tuple(sections),
        foot=f"perfci · lab {alert.lab} · job {alert.job} · alert {alert.id} · sent to {', '.join(to)}",
    )


def _which(story: BisectStory) -> list[Block]:
    if not story.culprits:
        return [Paragraph(story.verdict)]
    named = []
    for one in story.culprits:
        author = f" by {one.author.name}" if one.author else ""
        note = f" ({one.note})" if one.note else ""
        named.append((f"{one.name}: {one.subject}{author}{note}", one.link))
    return [Steps(tuple(named))]


def _measured(story: BisectStory) -> list[Block]:
    picture = draw(story)
    blocks: list[Block] = [Picture(picture, describe(story))] if picture is not None else []
    if story.rows:
        blocks.append(measured_table(story))
    return blocks or [Paragraph("perfci could not measure anything.")]


def measured_table(story: BisectStory) -> Table:
    """Return every place that was measured, in order, as a table."""
    metric = story.metric
    return Table(
        "revision",
        (story.series, "95 % interval", "runs"),
        tuple(
            Row(
                one.what,
                one.subject,
                (
                    one.note if one.level is None else quantity(one.level, metric),
                    MISSING
                    if one.low is None or one.high is None
                    else f"{quantity(one.low, metric)} … {quantity(one.high, metric)}",
                    str(one.runs),
                ),
            )
            for one in story.rows
        ),
        strong=0,
    )


def _within(story: BisectStory) -> list[Block]:
    return [Paragraph(story.verdict), *_which(story), *_measured(story)]


def _steps(story: BisectStory, alert: Alert) -> list[tuple[str, str]]:
    found = [
        ("Measure it again, starting from the existing runs:", story.command),
        ("See the alert:", f"perfci alerts show {alert.id}"),
    ]
    if story.proven and (name := story.culprits[0].project) in PROJECTS:
        found.insert(0, ("Try a fix:", f"perfci try --alert {alert.id} --change {name}=fix.patch"))
    if len(story.runs) > 0:
        found.append(
            (f"Look at one of its {counted(len(story.runs), 'run')}:", f"perfci run show {story.runs[-1]}")
        )
    return found
