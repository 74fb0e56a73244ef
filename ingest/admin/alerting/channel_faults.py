"""The faults of a channel, in a sentence without its secrets."""

import psycopg

from tasks.channels import attempt, chat, message
from tasks.settings import settings

KINDS = ("webhook", "mail", "apprise")
# By the constraint of the table that refuses.
_SENTENCES = {
    "channels_user_id_check": "A user's id has 1 to 128 characters.",
    "channels_name_check": "A channel's name has 1 to 64 letters, digits, dots, dashes and underscores.",
    "channels_target_check": "A target has 3 to 2000 characters, without control characters.",
    "channels_target_of_kind": "The target does not fit the kind: a webhook is a URL of https, mail one"
    " address, apprise a URL of Apprise.",
    "channels_secret_check": "A secret has 16 to 256 characters, without control characters.",
    "channels_severities_check": "A channel has 16 severities at most.",
    "channels_statuses_check": "The statuses are TRIGGERED, FLAPPING, ESCALATED, RESOLVED, SNOOZED,"
    " DISABLED, ENABLED, ACKNOWLEDGED.",
}


def fault(kind: str, target: str, template: str | None) -> str:
    """The fault of a channel that the table does not see; empty if there is none."""
    if kind not in KINDS:
        return f"There is no kind {kind}; the kinds are {', '.join(KINDS)}."
    if template is not None and (problem := message.problem(template)):
        return f"The template is wrong: {problem}."
    return _target_fault(kind, target)


def _target_fault(kind: str, target: str) -> str:
    if kind == "mail":
        if settings().smtp_host is None or settings().smtp_from is None:
            return "There is no mail server: set SMTP_HOST and SMTP_FROM, here and for the notify worker."
    elif "://" not in target:
        return "The target is no URL, such as https://example.com/alerts."
    problem = attempt.scheme_problem(kind, target) or (chat.problem(target) if kind == "apprise" else "")
    return f"The target is refused: {problem}." if problem else ""


def refusal(error: psycopg.errors.CheckViolation) -> str:
    """Why the table refuses a channel: its trigger names the constraint, and nothing of the row."""
    return _SENTENCES.get(
        error.diag.constraint_name or "", f"The database refuses: {error.diag.message_primary}."
    )
