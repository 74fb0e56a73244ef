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
# Users whose rules a process keeps as they are stored, besides those of the last call.
MAX_USERS = 10_000

# The transaction that wrote a row, and when it began: no two versions of a row have both in common.
VERSION = "concat(user_configs.xmin, ' ', updated_at)"
VERSIONS = f"SELECT user_id, {VERSION}, NULL FROM user_configs WHERE user_id = ANY(%s)"  # noqa: S608 - our own text
GROUPED_VERSIONS = f"""
SELECT user_id, {VERSION}, changed_at FROM user_configs LEFT JOIN device_group_versions USING (user_id)
WHERE user_id = ANY(%s)
"""  # noqa: S608 - our own text
RULES = f"SELECT user_id, {VERSION}, rules FROM user_configs WHERE user_id = ANY(%s)"  # noqa: S608 - our own text
GROUPS = """
SELECT user_id, group_name, array_agg(device_id) FROM device_groups WHERE user_id = ANY(%s) GROUP BY 1, 2
"""
HAS_GROUPS = "SELECT to_regclass('device_group_versions') IS NOT NULL"


class Stored(NamedTuple):
    """`user_configs.rules` of a user, and the user's groups of devices."""

    rules: Any
    groups: Groups = NO_GROUPS


class _Known(NamedTuple):
    """What was read of a user, with the versions that it had."""

    version: str
    groups_at: datetime | None
    stored: Stored


class StoredRules:
    """Reads the rules and groups that have changed since it read them: most users' have not."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._has_groups = False

    def load(self, users: Sequence[str]) -> dict[str, Stored]:
        """The present rules of these users; those without a row are missing. Raises `psycopg.Error`.

        What has not changed is the same object as before.
        """
        found: dict[str, _Known] = {}
        with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            # Workers of this version may be there before the tables are.
            if not self._has_groups:
                self._has_groups = cursor.execute(HAS_GROUPS).fetchone() == (True,)
            for start in range(0, len(users), AT_ONCE):
                found |= self._some(cursor, list(users[start : start + AT_ONCE]))
        self._known |= found
        if (surplus := len(self._known) - MAX_USERS) > 0:
            for user in [user for user in self._known if user not in found][:surplus]:
                del self._known[user]
        return {user: known.stored for user, known in found.items()}

    def _some(self, cursor: psycopg.Cursor[Any], users: list[str]) -> dict[str, _Known]:
        cursor.execute(GROUPED_VERSIONS if self._has_groups else VERSIONS, [users])
        versions = {user: (version, groups_at) for user, version, groups_at in cursor}
        known = {user: kept for user in versions if (kept := self._known.get(user)) is not None}
        others = [
            user for user, version in versions.items() if user not in known or known[user][:2] != version
        ]
        if not others:
            return known
        # After the versions: they are at least as new, and what is newer comes again with its version.
        rules = {user: (version, stored) for user, version, stored in cursor.execute(RULES, [others])}
        grouped = [user for user in others if versions[user][1] is not None]
        groups = groups_of(cursor, grouped) if grouped else {}
        for user in others:
            known.pop(user, None)
            if user in rules:
                version, stored = rules[user]
                known[user] = _Known(version, versions[user][1], Stored(stored, groups.get(user, NO_GROUPS)))
        return known


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
