"""The work of `sluice rules export`, `import`, `diff`, `history`, `restore`: a user's rules as a file."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from ingest.admin.accounts.accounts import check_id
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection, session
from ingest.admin.rulesets.rules import refused, with_groups
from ingest.admin.rulesets.rules_diff import Difference, differences, summary
from tasks.alerts import unknown_devices
from tasks.domain.placement import misplaced
from tasks.rules.devices import names_groups
from tasks.rules.everyone import EVERYONE
from tasks.rules.model import Fault
from tasks.rules.parsing import InvalidRules, parse_rules
from tasks.rules.rule import RuleSet
from tasks.rules.warnings import empty_groups
from tasks.text.times import in_utc
from tasks.user_requests import LOCK, REPLACE

_PRESENT = "SELECT rules FROM user_configs WHERE user_id = %s"
_HAS_ACCOUNT = "SELECT EXISTS (SELECT FROM mqtt_users WHERE user_id = %s)"
_VERSIONS = """
SELECT version, at, way, by, rules FROM rule_versions WHERE user_id = %s ORDER BY version
"""


class Version(NamedTuple):
    """A user's rules from `at` until the next version; who wrote them, and how."""

    version: int
    at: datetime
    way: str
    by: str | None
    rules: list[Any]


class Change(NamedTuple):
    """Rules that are to replace those that the user has, and what that would change."""

    user_id: str
    before: list[Any] | None
    after: list[Any]
    found: list[Difference]
    has_account: bool
    doubtful: list[Fault]
    """Warnings about rules that are valid but most likely not meant."""


def export(user_id: str) -> list[Any]:
    """The user's rules as they are in the table. Raises `OperatorError`, also where there are none."""
    check_owner(user_id)
    with session() as connection:
        present = _present(connection, user_id)
    if present is None:
        raise OperatorError(f"The user {user_id} has no rules.")
    return present


def check_owner(user_id: str) -> None:
    """Raises `OperatorError` unless this can be a user, or stands for everyone."""
    if user_id != EVERYONE:
        check_id(user_id, "user id")


def write(path: str, rules: list[Any]) -> None:
    """Writes the document of these rules, as `import` reads it. Raises `OperatorError`."""
    try:
        Path(path).write_text(as_document(rules), encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path} cannot be written: {error.strerror}.") from error


def as_document(rules: list[Any]) -> str:
    """The document, a field a line, which version control shows well."""
    return json.dumps({"rules": rules}, ensure_ascii=False, indent=2) + "\n"


def placed(rules: RuleSet, source: str) -> RuleSet:
    """The rules, if each can be judged here, as MQTT demands. Raises `RulesRefused` with every fault."""
    if faults := misplaced(rules):
        raise refused(source, faults)
    return rules


def plan(user_id: str, rules: RuleSet) -> Change:
    """The changes that these rules would make for the user. Raises `OperatorError`."""
    check_owner(user_id)
    after = [rule.model_dump(exclude_unset=True) for rule in rules.rules]
    with session() as connection:
        before = _present(connection, user_id)
        row = connection.execute(_HAS_ACCOUNT, [user_id]).fetchone()
        # Each user has groups of the names that the operator's rules have.
        named = user_id != EVERYONE and names_groups(rules.rules)
        doubtful = empty_groups(with_groups(connection, user_id, rules)) if named else []
        if user_id != EVERYONE:
            with connection.cursor() as cursor:
                doubtful += unknown_devices.found(cursor, user_id, rules)
    found = differences(before or [], after)
    return Change(user_id, before, after, found, user_id == EVERYONE or row == (True,), doubtful)


def plan_of_version(user_id: str, number: int) -> Change:
    """The changes of going back to a version. Raises `OperatorError`, also for rules invalid today."""
    old = next((one for one in history(user_id) if one.version == number), None)
    if old is None:
        raise OperatorError(
            f"There is no version {number} of the rules of {user_id}; `sluice rules history` lists them."
        )
    source = f"version {number}"
    try:
        return plan(user_id, placed(parse_rules(old.rules), source))
    except InvalidRules as error:
        raise refused(source, error.errors) from error


def apply(change: Change) -> None:
    """Replaces the rules, unless they have changed since the plan. Raises `OperatorError`."""
    with session() as connection, connection.transaction():
        connection.execute(LOCK, [change.user_id])
        if _present(connection, change.user_id) != change.before:
            raise OperatorError(
                f"The rules of {change.user_id} have changed meanwhile; nothing was written. Look at the"
                " difference again."
            )
        connection.execute(REPLACE, [change.user_id, Jsonb(change.after)])


def history(user_id: str) -> list[Version]:
    """The versions that are kept, the oldest first. Raises `OperatorError`."""
    check_owner(user_id)
    with session() as connection, connection.cursor(row_factory=class_row(Version)) as cursor:
        return cursor.execute(_VERSIONS, [user_id]).fetchall()


def as_text(versions: list[Version]) -> Iterator[str]:
    """One line for each version: its number, when, who, how many rules, and what it changed."""
    before: list[Any] | None = None
    for one in versions:
        changed = "" if before is None else f"  {summary(differences(before, one.rules))}"
        by = f" by {one.by}" if one.by else ""
        yield f"{one.version:>5}  {in_utc(one.at)}  {one.way}{by}  rules: {len(one.rules)}{changed}"
        before = one.rules


def as_json(versions: list[Version]) -> list[dict[str, Any]]:
    """The versions for machines, with their rules."""
    return [{**one._asdict(), "at": in_utc(one.at)} for one in versions]


def _present(connection: Connection, user_id: str) -> list[Any] | None:
    row = connection.execute(_PRESENT, [user_id]).fetchone()
    return None if row is None else list(row[0])  # type: ignore[call-overload]
