"""Reads back for a user what the tables hold: the rules in force, and the open alerts."""

from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from tasks.alerts import stored_rules
from tasks.domain.placement import in_force
from tasks.outbox import deliver, stream
from tasks.rules.answers import Answer, Asked
from tasks.rules.change import iso
from tasks.rules.devices import names_groups
from tasks.rules.everyone import EVERYONE, named
from tasks.rules.model import Fault
from tasks.rules.queries import MOST_FAULTS, AlertsQuery, alerts_page, parse_query, rules_page
from tasks.rules.warnings import empty_groups
from tasks.servers import database

# How long earlier changes may take into the tables; after that the query comes again.
SETTLE_SECONDS = 5.0
STATEMENT_SECONDS = 10

RULES = "SELECT rules FROM user_configs WHERE user_id = %s"
ALERTS = """
SELECT alert_id, status, device_id, rule_id, message, severity, key, operator, threshold, value, "values",
       sequence_id, first_seen, last_seen, count, violated, snoozed_until, acknowledged_at, acknowledged_by,
       note
FROM active_alerts
WHERE user_id = %(user)s
  AND (%(device)s::text IS NULL OR device_id = %(device)s)
  AND (%(device_after)s::text IS NULL OR (device_id, rule_id) > (%(device_after)s, %(rule_after)s))
  AND (alert_id IS NOT NULL AND status IN ('TRIGGERED', 'FLAPPING')
       OR status = 'SNOOZED' AND (alert_id IS NOT NULL OR %(silenced)s)
       OR status = 'DISABLED' AND %(silenced)s)
ORDER BY device_id, rule_id LIMIT %(most)s
"""
# The fields that an alert has only now and then, left out where they are null.
OPTIONAL = ("values", "violated", "snoozed_until", "acknowledged_at", "acknowledged_by", "note")


def read_back(asked: Asked, user_id: str, document: bytes) -> Answer:
    """The answer to a user's query. The alerts have every change that was made before.

    Raises `InvalidQuery`; `NotNow`, `redis.RedisError` and `psycopg.Error`, then there is no answer.
    """
    query = parse_query(asked, document)
    if isinstance(query, AlertsQuery):
        deliver.await_written(SETTLE_SECONDS, stream.awaited([user_id]))
        return alerts_page(query, user_id, _alerts(user_id, query))
    found = in_force(_rules(user_id))
    in_words = [rule.model_dump(exclude_unset=True) for rule in found.rules.rules]
    operators = [rule.model_dump(exclude_unset=True) for rule in named(in_force(_rules(EVERYONE)).rules)]
    answer = rules_page(query, user_id, in_words, operators)
    doubtful: list[Fault] = [
        {"path": fault["path"], "message": f"{fault['message']}; the rule is not in force"}
        for fault in found.faults[:MOST_FAULTS]
    ]
    if names_groups(found.rules.rules):
        # Without places of their own, the warnings would name others where a rule before is not in force.
        doubtful += empty_groups(stored_rules.with_groups(user_id, found.rules), found.places)
    if doubtful:
        answer["warnings"] = doubtful
    return answer


def _rules(user_id: str) -> Any:
    with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        row = cursor.execute(RULES, [user_id]).fetchone()
    return [] if row is None else row[0]


def _alerts(user_id: str, query: AlertsQuery) -> list[dict[str, Any]]:
    device_after, rule_after = query.after or (None, None)
    asked = {
        "user": user_id,
        "device": query.device_id,
        "device_after": device_after,
        "rule_after": rule_after,
        "silenced": query.silenced,
        "most": query.limit + 1,
    }
    with (
        database.access() as connection,
        connection.transaction(),
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        rows = cursor.execute(ALERTS, asked).fetchall()
    return [_shown(row) for row in rows]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: iso(value) if isinstance(value, datetime) else value
        for name, value in row.items()
        if value is not None or name not in OPTIONAL
    }
