"""How a night's outcome is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfci.cli.output import print_error

if TYPE_CHECKING:
    from perfci.runs.publish.after_run import NightOutcome
    from perfci.runs.verdicts.lab_services import LabServices


def print_outcome(outcome: NightOutcome, controller: LabServices) -> None:
    """Print the verdict, where the mail and the trends are, and what could not be done now."""
    from rich.console import Console

    from perfci.cli.verdicts import show_night
    from perfci.runs.publish.site_data import report_of

    record = outcome.record
    report = report_of(
        controller.database, controller.state.root, outcome.run, controller.alerts.load().alerts
    )
    runs = controller.local.records(record.lab, record.job, until=record.run_id)
    alike = [one for one in runs if one.environment == record.environment and one.status == record.status]
    show_night(
        Console(),
        report,
        mail=mail_lines(outcome, controller),
        trends=str(outcome.site or controller.state.site),
        least_runs=controller.analysis_settings(record).min_baseline,
        runs=len(alike),
    )
    for error in outcome.later:
        print_error(error, as_json=False)


def mail_lines(outcome: NightOutcome, controller: LabServices) -> list[str]:
    """Say where each mail of the night went."""
    if outcome.delivery is None:
        return []
    smtp = controller.settings.mail.smtp
    place = (
        str(controller.state.mail)
        if controller.settings.mail.transport == "maildir"
        else f"{smtp.host}:{smtp.port}"
    )
    done = outcome.delivery
    return [
        *(f"{letter} to {place}" for letter in done.sent),
        *(f"{letter} waits: {place} refuses it for now" for letter in done.waiting),
        *(f"{letter} was refused by {place}; see `perfci status`" for letter in done.failed),
        *done.problems,
    ]


def outcome_as_dict(outcome: NightOutcome) -> dict[str, Any]:
    """Return the outcome for `--json`."""
    from perfci.runs.verdicts.judge import as_json

    record = outcome.record
    return {
        "run": record.run_id,
        "lab": record.lab,
        "job": record.job,
        "status": record.status,
        "failure": outcome.failure,
        "valid": record.validity.valid,
        "reasons": record.validity.reasons,
        "judgements": as_json(outcome.judgements),
        "notifications": [{"id": one.id, "kind": str(one.kind)} for one in outcome.told],
        "mail": None
        if outcome.delivery is None
        else {
            "sent": outcome.delivery.sent,
            "waiting": outcome.delivery.waiting,
            "failed": outcome.delivery.failed,
        },
        "later": [error.as_dict() for error in outcome.later],
        "folder": outcome.folder,
        "site": outcome.site,
    }
