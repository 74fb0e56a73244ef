"""The work of `sluice erase`: removes what there is of a user or a device, and says what it cannot remove.

Nothing that comes meanwhile may be left behind, so first nothing may come: the accounts of a user go first,
those of a device must be gone, and what Kafka had is stored, and silent for a minute, before the first row
goes. Each step may be interrupted, and the command run again: it removes what is left.
"""

from collections.abc import Callable, Iterator
from typing import Any

import redis

from ingest.admin.accounts.accounts import check_id
from ingest.admin.audit import note
from ingest.admin.erasure import erase_redis, erase_rows, underway
from ingest.admin.erasure.erase_tables import (
    ACCESS,
    ALERTS,
    DAILY,
    HOURLY,
    KEPT,
    MARKS,
    REGISTRY,
    SETTINGS,
    Part,
    Target,
    domain_rows,
)
from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection
from tasks import registry
from tasks.settings import settings

MAX_DEVICE_CHARACTERS = 300

Progress = Callable[[str, int, int], None]
Counts = dict[str, int]


class NotErased(OperatorError):
    """Nothing was removed but a user's accounts, because something may still come, or not all was removed."""


def user(user_id: str) -> Target:
    """A whole user. Raises `OperatorError` for what can be none."""
    return Target(check_id(user_id, "user id"))


def device(user_id: str, device_id: str) -> Target:
    """One device, by its id in alerts. Raises `OperatorError` for what can be none."""
    check_id(user_id, "user id")
    domain = next((one for one in registry.domains() if one.owns(device_id)), None)
    if not 1 <= len(device_id) <= MAX_DEVICE_CHARACTERS or domain is None:
        raise OperatorError(
            f"{device_id!r} is not a device: name it as `sluice devices list` does, with its domain before it"
            " unless that is the first of DOMAINS, as in crates/c1."
        )
    return Target(user_id, device_id, domain.source_id(device_id), domain.name)


def counts(connection: Connection, target: Target) -> Counts:
    """How much there is, by table and kind, of what would be removed.

    Raises `OperatorError`, `psycopg.Error`.
    """
    found = {part.table: erase_rows.count(connection, part, target) for part in parts()}
    tables = [*domain_rows(connection, target), HOURLY]
    found |= {one.relation: erase_rows.count_rows(connection, one, target) for one in tables}
    erase_redis.require()
    return found | erase_redis.count(target)


def obstacles(connection: Connection, target: Target) -> list[str]:
    """Why nothing of the target would be removed now, a sentence each. Raises `psycopg.Error`."""
    found = []
    usernames = underway.accounts(connection, target)
    if target.device_id is not None and usernames:
        found.append(
            f"The account {usernames[0]} may still send: remove it first"
            f" (`sluice provision remove {usernames[0]}`)."
        )
    heard = underway.heard_seconds(connection, target)
    if heard is not None and heard < underway.SILENT_SECONDS:
        found.append(
            f"Something came of {target.name} {heard:.0f} s ago: see that nothing sends any more, and run"
            f" the command again when nothing has come for {underway.SILENT_SECONDS} s."
        )
    return found


def left(target: Target) -> Iterator[str]:
    """The data that is not removed, and why, a sentence each."""
    days = settings().dead_letter_retention_days
    topics = [one.qualified(settings().kafka_topic) for one in registry.domains()]
    yield (
        f"Kafka's {' and '.join(topics)}: messages stay until the topic's retention is over. `sluice replay`"
        " would bring their rows back."
    )
    yield f"Kafka's dead letters: {days} days, by DEAD_LETTER_RETENTION_DAYS. `sluice dlq replay` likewise."
    yield f"The table operator_audit: {KEPT['operator_audit']}. The table replays: {KEPT['replays']}."
    if target.device_id is not None:
        yield "The user's rules, also earlier versions, where they name the device; its retained messages."
    yield (
        "What is outside: backups and replicas of the database, files of `sluice export`, logs and traces"
        " (they name users and devices; metrics do not), messages that the MQTT broker retains or keeps for"
        " a session."
    )


def carry_out(connection: Connection, target: Target, progress: Progress) -> Counts:
    """Removes it, with entries in the audit trail; returns how much, by table and kind.

    Raises `NotErased`, `OperatorError`, `psycopg.Error`.
    """
    try:
        return _carry_out(connection, target, progress)
    except redis.RedisError as error:
        raise OperatorError(f"Redis has failed: {error}. Run the command again when it answers.") from error


def _carry_out(connection: Connection, target: Target, progress: Progress) -> Counts:
    planned = counts(connection, target)
    removed = _Removed(planned, progress)
    if target.device_id is not None:
        _refuse(obstacles(connection, target))
    note(connection, "ERASE", target.kind, target.name, {"found": _some(planned)})
    if target.device_id is None:
        _remove(connection, ACCESS, target, removed)
    underway.await_settled(connection)
    _refuse(obstacles(connection, target))
    _remove(connection, (*ACCESS, *SETTINGS), target, removed)
    # Before the alerts end: by these times the clock would find the devices absent again.
    erase_redis.forget(target)
    removed.add("alert states in Redis", erase_redis.end_alerts(target))
    for rows in domain_rows(connection, target):
        erase_rows.remove_rows(connection, rows, target, removed.of(rows.relation))
    erase_rows.remove_rows(connection, HOURLY, target, removed.of(HOURLY.relation), alone=True)
    erase_rows.remove_rollups(connection, DAILY, target, removed.of(DAILY.table))
    erase_rows.unname_marks(connection, target, removed.of(MARKS.table))
    _remove(connection, (*ALERTS, *REGISTRY), target, removed)
    note(connection, "ERASED", target.kind, target.name, {"removed": _some(removed.counts)})
    remaining = _some(counts(connection, target))
    if remaining:
        said = ", ".join(f"{number:,} of {name}" for name, number in remaining.items())
        raise NotErased(
            f"Something is there again, because it came meanwhile: {said}. Run the command again."
        )
    return removed.counts


class _Removed:
    """The progress: how many rows of those planned have been removed so far."""

    def __init__(self, planned: Counts, progress: Progress) -> None:
        self.counts: Counts = {}
        self._planned = planned
        self._progress = progress

    def add(self, what: str, number: int) -> None:
        self.counts[what] = self.counts.get(what, 0) + number
        self._progress(what, self.counts[what], max(self.counts[what], self._planned.get(what, 0)))

    def of(self, what: str) -> Callable[[int], None]:
        return lambda number: self.add(what, number)


def _remove(connection: Connection, parts: tuple[Part, ...], target: Target, removed: _Removed) -> None:
    for part in parts:
        erase_rows.remove(connection, part, target, removed.of(part.table))


def _refuse(obstacles: list[str]) -> None:
    if obstacles:
        raise NotErased(" ".join(obstacles))


def _some(counts: Counts) -> dict[str, Any]:
    return {name: number for name, number in counts.items() if number}


def parts() -> tuple[Part, ...]:
    """The parts to remove besides rows by device and time."""
    return (*ACCESS, *SETTINGS, *ALERTS, *REGISTRY, DAILY, MARKS)
