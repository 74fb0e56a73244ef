"""Users' rules in the database: the documents, and the groups of devices that they may name."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg

from tasks.rules.devices import NO_GROUPS, Groups
from tasks.rules.rule import RuleSet
from tasks.servers import database

STATEMENT_SECONDS = 10
# Users per statement; the rules of each are 256 KiB at most.
AT_ONCE = 100
# Users whose groups a process keeps, besides those of the last statement.
MAX_USERS = 10_000

RULES = "SELECT user_id, rules, NULL FROM user_configs WHERE user_id = ANY(%s)"
RULES_AND_VERSIONS = """
SELECT user_id, rules, changed_at FROM user_configs LEFT JOIN device_group_versions USING (user_id)
WHERE user_id = ANY(%s)
"""
GROUPS = """
SELECT user_id, group_name, array_agg(device_id) FROM device_groups WHERE user_id = ANY(%s) GROUP BY 1, 2
"""
HAS_GROUPS = "SELECT to_regclass('device_group_versions') IS NOT NULL"


class Stored(NamedTuple):
    """`user_configs.rules` of a user, and the user's groups of devices."""

    rules: Any
    groups: Groups = NO_GROUPS


class StoredRules:
    """Reads rules, and those groups that have changed since it read them."""

    def __init__(self) -> None:
        self._groups: dict[str, tuple[datetime, Groups]] = {}
        self._has_groups = False

    def load(self, users: Sequence[str]) -> dict[str, Stored]:
        """The present rules of these users; those without a row are missing. Raises `psycopg.Error`."""
        found: dict[str, Stored] = {}
        with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            # Workers of this version may be there before the tables are.
            if not self._has_groups:
                self._has_groups = cursor.execute(HAS_GROUPS).fetchone() == (True,)
            for start in range(0, len(users), AT_ONCE):
                found |= self._some(cursor, list(users[start : start + AT_ONCE]))
        return found

    def _some(self, cursor: psycopg.Cursor[Any], users: list[str]) -> dict[str, Stored]:
        rows = cursor.execute(RULES_AND_VERSIONS if self._has_groups else RULES, [users]).fetchall()
        versions = {str(user_id): changed_at for user_id, _, changed_at in rows if changed_at is not None}
        known = {user: kept for user in versions if (kept := self._groups.get(user)) is not None}
        outdated = [user for user, at in versions.items() if user not in known or known[user][0] != at]
        if outdated:
            # After the versions: they are at least as new, and what is newer comes again with its version.
            read = groups_of(cursor, outdated)
            known |= {user: (versions[user], read.get(user, NO_GROUPS)) for user in outdated}
            if len(self._groups) > MAX_USERS:
                self._groups.clear()
            self._groups |= known
        return {
            str(user_id): Stored(rules, known[user_id][1] if user_id in known else NO_GROUPS)
            for user_id, rules, _ in rows
        }


def groups_of(cursor: psycopg.Cursor[Any], users: Sequence[str]) -> dict[str, Groups]:
    """The present groups of users; those without any are missing. Raises `psycopg.Error`."""
    found: dict[str, dict[str, frozenset[str]]] = {}
    for user_id, name, devices in cursor.execute(GROUPS, [list(users)]):
        found.setdefault(user_id, {})[name] = frozenset(devices)
    return dict(found)


def with_groups(user_id: str, rules: RuleSet) -> RuleSet:
    """A user's rules with the groups that there are at present. Raises `psycopg.Error`."""
    found = load([user_id]).get(user_id)
    return rules if found is None else rules.with_groups(found.groups)


def load(users: Sequence[str]) -> dict[str, Stored]:
    """The present rules of these users, by this process's reader. Raises `psycopg.Error`."""
    return _shared().load(users)


@lru_cache
def _shared() -> StoredRules:
    return StoredRules()
