"""What is wrong with a channel, in a sentence without its secrets: found before the database has the row."""

import re

import psycopg

from tasks.channels import attempt, chat, message
from tasks.settings import settings

KINDS = ("webhook", "mail", "apprise")
STATUSES = (
    *("TRIGGERED", "FLAPPING", "ESCALATED", "RESOLVED", "SNOOZED", "DISABLED", "ENABLED"),
    "ACKNOWLEDGED",
)
# By the constraint of the table that says the same.
_SENTENCES = {
    "channels_user_id_check": "A user's id has 1 to 128 characters.",
    "channels_name_check": "A channel's name has 1 to 64 letters, digits, dots, dashes and underscores.",
    "channels_target_check": "A target has 3 to 2000 characters, without control characters.",
    "channels_target_of_kind": "The target does not fit the kind: a webhook is a URL of https, mail one"
    " address, apprise a URL of Apprise.",
    "channels_secret_check": "A secret has 16 to 256 characters, without control characters.",
    "channels_severities_check": "A channel has 16 severities at most.",
    "channels_statuses_check": f"The statuses are {', '.join(STATUSES)}.",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TARGETS = {
    "webhook": re.compile(r"https?://\S+"),
    "mail": re.compile(r'[^\s@,;<>"]+@[A-Za-z0-9.-]+'),
    "apprise": re.compile(r"[a-z][a-z0-9+]*://\S+"),
}


def fault(
    user_id: str,
    name: str,
    kind: str,
    target: str,
    *,
    severities: list[str] | None,
    statuses: list[str] | None,
    template: str | None,
    secret: str | None = None,
) -> str:
    """What is wrong with a channel, whatever the table would see of it too; empty if nothing is."""
    if kind not in KINDS:
        return f"There is no kind {kind}; the kinds are {', '.join(KINDS)}."
    if template is not None and (problem := message.problem(template)):
        return f"The template is wrong: {problem}."
    broken = {
        "channels_user_id_check": not 1 <= len(user_id) <= 128,
        "channels_name_check": _NAME.fullmatch(name) is None,
        "channels_severities_check": len(severities or []) > 16,
        "channels_statuses_check": not set(statuses or []) <= set(STATUSES),
        "channels_secret_check": secret is not None
        and (not 16 <= len(secret) <= 256 or _CONTROL.search(secret) is not None),
        "channels_target_check": not 3 <= len(target) <= 2000 or _CONTROL.search(target) is not None,
    }
    for constraint, is_so in broken.items():
        if is_so:
            return _SENTENCES[constraint]
    return _target_fault(kind, target)


def _target_fault(kind: str, target: str) -> str:
    if kind == "mail":
        if settings().smtp_host is None or settings().smtp_from is None:
            return "There is no mail server: set SMTP_HOST and SMTP_FROM, here and for the notify worker."
    elif "://" not in target:
        return "The target is no URL, such as https://example.com/alerts."
    problem = attempt.scheme_problem(kind, target)
    if not problem and _TARGETS[kind].fullmatch(target) is None:
        return _SENTENCES["channels_target_of_kind"]
    if not problem and kind == "apprise":
        problem = chat.problem(target)
    return f"The target is refused: {problem}." if problem else ""


def refusal(error: psycopg.errors.CheckViolation) -> str:
    """Why the table refuses a channel, in a sentence.

    The database's own text may repeat the row, and with it the secrets.
    """
    return _SENTENCES.get(
        error.diag.constraint_name or "", f"The database refuses: {error.diag.message_primary}."
    )
