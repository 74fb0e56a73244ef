"""Rows of `active_alerts` that wait for the clock: found page by page, and judged where they are due."""

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Generic, LiteralString, Protocol, TypeVar

from psycopg.rows import class_row

from tasks.alerts import silence, state_store
from tasks.alerts.absences import FULL_SHARE
from tasks.alerts.last_seen import Device
from tasks.alerts.rule_cache import rule_sets, versioned
from tasks.domain.domain import AnyDomain
from tasks.domain.placement import about, for_device
from tasks.rules.rule import Compiled, RuleSet
from tasks.rules.state import DeviceState
from tasks.servers import database
from tasks.servers.turns import Turn

AT_ONCE = 500

Place = tuple[datetime | str, ...]
Judge = Callable[[AnyDomain, list[Device], silence.Heard], int]


class Waiting(Protocol):
    """A row that waits."""

    @property
    def user_id(self) -> str:
        """The user."""

    @property
    def device_id(self) -> str:
        """The device, with the namespace of its domain."""

    @property
    def rule_id(self) -> str:
        """The rule."""

    @property
    def place(self) -> Place:
        """Where the next page begins, if this row is the last of one."""

    def is_due(self, rule: Compiled, now_ms: int) -> bool:
        """Whether it has waited for long enough by its rule."""


Row = TypeVar("Row", bound=Waiting)


class Look(Generic[Row]):
    """Looks of this process at the rows of a query, which ends with a prefix, twice, and a limit."""

    def __init__(self, query: LiteralString, kind: type[Row], beginning: Place) -> None:
        self._query = query
        self._kind = kind
        self._beginning = beginning
        # By domain: looks take one twentieth of the time, however many rows wait.
        self._rests_until: dict[str, float] = {}

    def judge(self, domain: AnyDomain, turn: Turn, now_ms: int, judge: Judge) -> int:
        """Judges the devices of a domain with a row that is due; returns how many changes that made.

        Raises `psycopg.Error`, `redis.RedisError`, `KafkaException`, `NotNow`.
        """
        if time.monotonic() < self._rests_until.get(domain.name, 0.0):
            return 0
        changes, looked_s, heard = 0, 0.0, None
        after: Place | None = self._beginning
        while after is not None:
            turn.keep()
            started = time.monotonic()
            waiting = self._page(domain, after)
            devices = _due(domain, waiting, now_ms)
            looked_s += time.monotonic() - started
            after = waiting[-1].place if len(waiting) == AT_ONCE else None
            if not devices:
                continue
            heard = heard or silence.heard(now_ms, domain)
            if heard is None:
                break
            changes += state_store.by_present_rules(partial(judge, domain, devices, heard))
        self._rests_until[domain.name] = time.monotonic() + FULL_SHARE * looked_s
        return changes

    def _page(self, domain: AnyDomain, after: Place) -> list[Row]:
        values: list[Any] = [*after, domain.prefix, domain.prefix, AT_ONCE]
        with database.access() as connection, connection.cursor(row_factory=class_row(self._kind)) as cursor:
            return cursor.execute(self._query, values).fetchall()


def present_rules(domain: AnyDomain, devices: list[Device]) -> tuple[Callable[[DeviceState], RuleSet], bytes]:
    """The rules in force of each of these devices, by its state, and their version."""
    in_use, version = versioned({user_id for user_id, _ in devices})
    rules = {user_id: about(domain, own) for user_id, own in in_use.items()}
    return lambda state: for_device(domain, rules[state.user_id], state.device_id), version


def _due(domain: AnyDomain, waiting: list[Row], now_ms: int) -> list[Device]:
    own = rule_sets({one.user_id for one in waiting})
    rules = {user_id: about(domain, of_user) for user_id, of_user in own.items()}
    found: set[Device] = set()
    for one in waiting:
        rule = for_device(domain, rules[one.user_id], one.device_id).by_id.get(one.rule_id)
        if rule is not None and one.is_due(rule, now_ms):
            found.add((one.user_id, one.device_id))
    return sorted(found)
