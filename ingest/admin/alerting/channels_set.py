"""Channels for callers who may set them but not read their secrets: listed, set, and their deliveries."""

from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.rows import dict_row

from ingest.admin.alerting.channel_faults import fault, refusal
from ingest.admin.alerting.channels import BY_DEFAULT, SHOWN, id_of
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection

MOST_NUMBER = 2**63 - 1

_PAGE: LiteralString = f"""
{SHOWN.format(channels="channels_shown")}
WHERE (%(user)s::text IS NULL OR c.user_id = %(user)s)
    AND (%(after_user)s::text IS NULL OR (c.user_id, c.name) > (%(after_user)s, %(after_name)s))
ORDER BY c.user_id, c.name LIMIT %(limit)s
"""
_DELIVERIES = """
SELECT id::text AS number, alert_id, status, time, device_id, rule_id, state, attempts, why, created_at,
       done_at,
       CASE WHEN state = 'waiting' THEN next_at END AS next_at,
       CASE WHEN state = 'held' THEN held_until END AS held_until
FROM channel_deliveries WHERE channel_id = %s AND id < %s ORDER BY id DESC LIMIT %s
"""
_UPDATE: LiteralString = f"""
UPDATE channels SET kind = %(kind)s, target = %(target)s, severities = %(severities)s::text[],
    statuses = coalesce(%(statuses)s::text[], {BY_DEFAULT}),
    template = %(template)s, enabled = %(enabled)s
WHERE user_id = %(user)s AND name = %(name)s
"""  # noqa: S608 - constants
_SIGNED = "UPDATE channels SET secret = %(secret)s WHERE user_id = %(user)s AND name = %(name)s"
_INSERT: LiteralString = f"""
INSERT INTO channels (user_id, name, kind, target, severities, statuses, template, enabled)
VALUES (%(user)s, %(name)s, %(kind)s, %(target)s, %(severities)s::text[],
    coalesce(%(statuses)s::text[], {BY_DEFAULT}), %(template)s, %(enabled)s)
"""  # noqa: S608 - constants


class Place(NamedTuple):
    """A position in the list of channels."""

    user_id: str
    name: str


class Number(NamedTuple):
    """A position in the list of deliveries."""

    number: str


class Wanted(NamedTuple):
    """The wanted state of a channel; without a secret it keeps the one that it has."""

    kind: str
    target: str
    secret: str | None
    severities: list[str] | None
    statuses: list[str] | None
    template: str | None
    enabled: bool


def page(
    connection: Connection, user_id: str | None, limit: int, after: Place | None
) -> list[dict[str, Any]]:
    """Channels by user and name, without secrets, with what became of their deliveries."""
    given = {"user": user_id, "limit": limit}
    given |= {"after_user": after and after.user_id, "after_name": after and after.name}
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_PAGE, given).fetchall()


def deliveries(
    connection: Connection, user_id: str, name: str, limit: int, before: Number | None
) -> list[dict[str, Any]]:
    """A channel's deliveries, the newest first. Raises `NoChannel`, and `OperatorError` for a wrong place."""
    number = MOST_NUMBER
    if before is not None:
        if not (before.number.isascii() and before.number.isdigit() and int(before.number) <= MOST_NUMBER):
            raise OperatorError("`cursor` is not one that this API has given; begin without one.")
        number = int(before.number)
    channel = id_of(connection, user_id, name)
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_DELIVERIES, [channel, number, limit]).fetchall()


def put(connection: Connection, user_id: str, name: str, wanted: Wanted) -> bool:
    """Makes the channel, or makes it what is wanted; returns whether it is new. Raises `OperatorError`.

    The user who sets a webhook chooses the secret that signs its messages: no answer ever holds one.
    """
    if problem := fault(wanted.kind, wanted.target, wanted.template) or _secret_fault(wanted):
        raise OperatorError(problem)
    given = {**wanted._asdict(), "user": user_id, "name": name}
    try:
        new = connection.execute(_UPDATE, given).rowcount == 0
        if new:
            if wanted.kind == "webhook" and wanted.secret is None:
                raise OperatorError(
                    "A new webhook needs `secret`, of 16 to 256 characters: its receiver verifies the"
                    " messages with it."
                )
            connection.execute(_INSERT, given)
        if wanted.secret is not None:
            connection.execute(_SIGNED, given)
    except psycopg.errors.UniqueViolation as error:
        raise OperatorError("The channel was added by another request meanwhile; send this again.") from error
    except psycopg.errors.CheckViolation as error:
        raise OperatorError(refusal(error)) from error
    return new


def _secret_fault(wanted: Wanted) -> str:
    if wanted.secret is not None and wanted.kind != "webhook":
        return "Only a webhook has a `secret`; leave it out."
    return ""
