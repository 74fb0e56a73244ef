"""Devices that a user's rules name, or mean by a pattern, and that nobody knows: most likely misspelt.

Known are those of the registry and those with an account.
"""

from collections.abc import Iterator
from typing import Any

import psycopg

from tasks import registry
from tasks.rules.model import Fault
from tasks.rules.rule import RuleSet
from tasks.rules.warnings import Named, named_devices, unknown_devices
from tasks.servers import database

STATEMENT_SECONDS = 5
# The limits of one document. A pattern is compared with each device of the user.
MAX_NAMES, MAX_PATTERNS = 1000, 50
MAX_SUGGESTED = 1000

_UNKNOWN = """
SELECT wanted.number
FROM unnest(%(own)s::text[], %(seen)s::text[]) WITH ORDINALITY AS wanted (own, seen, number)
WHERE NOT EXISTS (SELECT FROM devices WHERE user_id = %(user)s AND device_id {fits} wanted.seen)
  AND NOT EXISTS (SELECT FROM mqtt_users
                  WHERE kind = 'device' AND user_id = %(user)s AND device_id {fits} wanted.own)
"""
_SOME = """
(SELECT device_id FROM devices WHERE user_id = %(user)s LIMIT %(most)s)
UNION (SELECT device_id FROM mqtt_users WHERE kind = 'device' AND user_id = %(user)s LIMIT %(most)s)
"""


def doubts(user_id: str, rules: RuleSet) -> list[Fault]:
    """One warning for each place of the rules that is about no known device. Raises `psycopg.Error`."""
    if not named_devices(rules):
        return []
    with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
        return found(cursor, user_id, rules)


def found(cursor: psycopg.Cursor[Any], user_id: str, rules: RuleSet) -> list[Fault]:
    """The same, by this cursor."""
    wanted = named_devices(rules)
    names = [one for one in wanted if "*" not in one.pattern][:MAX_NAMES]
    patterns = [one for one in wanted if "*" in one.pattern][:MAX_PATTERNS]
    unknown = {*_unknown(cursor, user_id, names, "="), *_unknown(cursor, user_id, patterns, "LIKE")}
    if not unknown:
        return []
    known = [str(name) for (name,) in cursor.execute(_SOME, {"user": user_id, "most": MAX_SUGGESTED})]
    return unknown_devices(rules, unknown, known)


def _unknown(cursor: psycopg.Cursor[Any], user_id: str, wanted: list[Named], fits: str) -> Iterator[Named]:
    if not wanted:
        return
    own = [one.pattern if fits == "=" else _like(one.pattern) for one in wanted]
    seen = [
        f"{registry.by_name(one.domain or '').prefix}{name}" for one, name in zip(wanted, own, strict=True)
    ]
    values = {"user": user_id, "own": own, "seen": seen}
    for (number,) in cursor.execute(_UNKNOWN.format(fits=fits), values).fetchall():
        yield wanted[number - 1]


def _like(pattern: str) -> str:
    for sign in ("\\", "%", "_"):
        pattern = pattern.replace(sign, f"\\{sign}")
    return pattern.replace("*", "%")
