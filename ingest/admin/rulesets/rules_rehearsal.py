"""Judges stored readings by rules, with the workers' own code and without publishing anything."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from psycopg import sql

from ingest.admin.postgres import Connection
from tasks.domain.domain import AnyDomain
from tasks.domain.stored import payload_of
from tasks.rules import machine
from tasks.rules.change import CALM, Change
from tasks.rules.lasting import calm_at, calmed, due, lasted
from tasks.rules.machine import LastSeen, Observation
from tasks.rules.model import Scalar
from tasks.rules.rule import RuleSet, find
from tasks.rules.state import DeviceState, to_us
from tasks.servers.table_names import names
from tasks.text.paths import MISSING

# An alert that returns this soon after its end was hardly over.
FLAP = timedelta(minutes=5)
ROWS_AT_ONCE = 5000

Stored = tuple[str, Observation]
"""A device and its reading."""


class Firing(NamedTuple):
    """One alert: from its trigger to its end, if it has ended. `value` is the one that triggered it."""

    device_id: str
    begin: datetime
    end: datetime | None
    value: Scalar | None
    flap: bool
    flapping: bool = False
    """Whether it began as FLAPPING: then only that change is published."""

    def lasted(self, now: datetime) -> timedelta:
        """How long the alert was open, up to now if it still is."""
        return (self.end or now) - self.begin


class History(NamedTuple):
    """The alerts that the rules would have raised, by `rule_id`, and how much was judged."""

    readings: int
    devices: int
    firings: dict[str, list[Firing]]
    first: datetime | None = None
    """The time of the earliest reading."""


def judge(rules: RuleSet, user_id: str, stored: Iterable[Stored], now: datetime) -> History:
    """Judges readings that come device by device, each in the order of time.

    The silence of a device that has sent nothing more counts up to `now`.
    """
    firings: dict[str, list[Firing]] = {rule_id: [] for rule_id in rules.by_id}
    readings = devices = 0
    first: datetime | None = None
    for device_id, of_device in groupby(stored, key=lambda item: item[0]):
        devices += 1
        life = Life(rules.of_device(device_id), user_id, device_id)
        for _, reading in of_device:
            readings += 1
            first = reading.time if first is None else min(first, reading.time)
            life.hear(reading)
        life.wait(to_us(now) // 1000)
        for rule_id, found in _firings(life.changes).items():
            firings[rule_id] += found
    return History(readings, devices, firings, first)


def read(
    connection: Connection,
    domain: AnyDomain,
    user_id: str,
    device_id: str | None,
    since: datetime,
    now: datetime,
) -> Iterator[Stored]:
    """The stored readings of a user, or of one source, as `judge` wants them. Raises `psycopg.Error`."""
    query = sql.SQL(
        "SELECT {columns} FROM {table} WHERE {owner} = %s AND (%s::text IS NULL OR {source} = %s)"
        " AND {time} BETWEEN %s AND %s ORDER BY {source}, {key}"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, domain.columns)),
        key=sql.SQL(", ").join(map(sql.Identifier, domain.primary_key)),
        **names(domain),
    )
    with connection.transaction(), connection.cursor(name="history") as cursor:
        cursor.itersize = ROWS_AT_ONCE
        cursor.execute(query, [user_id, device_id, device_id, since, now])
        for number, row in enumerate(cursor):
            fields: dict[str, Any] = dict(zip(domain.columns, row, strict=True))
            yield str(fields[domain.source]), _observation(domain, number, fields)


def _observation(domain: AnyDomain, number: int, fields: dict[str, Any]) -> Observation:
    time: datetime = fields[domain.time]
    payload = payload_of(domain, fields)
    return Observation(0, number, to_us(time) // 1000, time, fields.get("sequence_id"), payload)


class Life:
    """One device under its rules, from its first reading on, and the changes so far."""

    def __init__(self, rules: RuleSet, user_id: str, device_id: str) -> None:
        self.changes: list[Change] = []
        self._rules = rules
        self._state = DeviceState(user_id, device_id)
        self._seen_ms: int | None = None
        self._keys_seen: dict[str, int] = {}

    def hear(self, reading: Observation) -> None:
        """A reading comes, after a silence that may have been too long."""
        self.wait(reading.timestamp_ms)
        self._state, changes = machine.step(self._state, self._rules, reading)
        self.changes += changes
        self._seen_ms = reading.timestamp_ms
        for rule in self._rules.absences:
            if rule.key and (value := find(reading.payload, rule)) is not MISSING and value is not None:
                self._keys_seen[rule.key] = reading.timestamp_ms

    def wait(self, until_ms: int) -> None:
        """The clock judges whenever a rule's patience ends: silence, and violations that last."""
        if self._seen_ms is None:
            return
        seen = LastSeen(self._seen_ms, self._keys_seen)
        judged = self._seen_ms - 1
        # An event of one moment, for example the start of an absence, may calm down at a later one.
        while (
            end := min((at for at in self._moments() if judged < at < until_ms), default=None)
        ) is not None:
            judged = end
            self._state, changes = lasted(self._state, self._rules, end, 0)
            self.changes += changes
            self._state, changes = calmed(self._state, self._rules, end, 0)
            self.changes += changes
            self._state, changes = machine.absent(self._state, self._rules, seen, end, 0)
            self.changes += changes

    def _moments(self) -> Iterator[int]:
        assert self._seen_ms is not None
        yield from self._silent_at(self._seen_ms)
        yield from self._lasted_at()
        for rule_id, entry in self._state.entries.items():
            rule = self._rules.by_id.get(rule_id)
            if rule is not None and entry.flips is not None:
                yield -(-calm_at(rule, entry, self._state.newest, 0) // 1000)

    def _silent_at(self, device_ms: int) -> Iterator[int]:
        for rule in self._rules.absences:
            seen_ms = self._keys_seen.get(rule.key) if rule.key else device_ms
            if seen_ms is not None:
                yield seen_ms + -(-rule.for_us // 1000)

    def _lasted_at(self) -> Iterator[int]:
        newest = self._state.newest
        for rule_id, entry in self._state.entries.items():
            rule = self._rules.by_id.get(rule_id)
            if rule is not None and newest is not None and entry.first_seen is not None:
                yield -(-due(newest, entry.first_seen, rule.for_us) // 1000)


def _firings(changes: Iterable[Change]) -> dict[str, list[Firing]]:
    found: dict[str, list[Firing]] = {}
    for change in changes:
        of_rule = found.setdefault(change.rule_id, [])
        is_calm = change.status == "TRIGGERED" and change.reason == CALM
        if change.status in {"TRIGGERED", "FLAPPING"} and not is_calm:
            before = of_rule[-1].end if of_rule else None
            flap = before is not None and change.time - before < FLAP
            flapping = change.status == "FLAPPING"
            of_rule.append(Firing(change.device_id, change.time, None, change.value, flap, flapping))
        elif change.status == "RESOLVED":
            of_rule[-1] = of_rule[-1]._replace(end=change.time)
    return found
