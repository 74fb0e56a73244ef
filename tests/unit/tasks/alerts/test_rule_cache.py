"""The copies of rules that a worker judges by: at most as old as the number in Redis says."""

from typing import Any

import psycopg
import pytest

from tasks.alerts import rule_cache as module
from tasks.alerts.rule_cache import RELOAD_SECONDS, TRY_AGAIN_SECONDS, RuleSets, RulesUnknown
from tasks.alerts.stored_rules import Stored
from tasks.domain import placement
from tasks.rules.devices import Groups
from tasks.rules.parsing import parse_rules
from tasks.rules.rule import NO_RULES


def rule(threshold: float) -> dict[str, Any]:
    """A rule about the temperature."""
    return {"key": "temperature", "operator": ">", "threshold": threshold, "message": "hot"}


class World:
    """A database, a number in Redis and a clock."""

    def __init__(self) -> None:
        self.table: dict[str, Any] = {}
        self.groups: dict[str, Groups] = {}
        self.version = b"1"
        self.now = 0.0
        self.away = False
        self.loads: list[list[str]] = []
        self.sets = RuleSets(self._load, lambda: self.version, lambda: self.now)

    def _load(self, users: list[str]) -> dict[str, Stored]:
        self.loads.append(users)
        if self.away:
            raise psycopg.OperationalError("gone fishing")
        groups = self.groups
        return {user: Stored(self.table[user], groups.get(user, {})) for user in users if user in self.table}

    def thresholds(self, user: str) -> list[float]:
        """The thresholds of the user's rules in force."""
        return [compiled.threshold for compiled in self.sets.get([user])[user].comparisons]


def test_rules_are_read_once_for_each_change() -> None:
    """One query reads all users that are missing; nothing is read again until the number differs."""
    world = World()
    world.table = {"a": [rule(1)], "b": [rule(2)]}
    assert world.sets.get(["a", "b", "c"]) == {
        "a": parse_rules([rule(1)]),
        "b": parse_rules([rule(2)]),
        "c": NO_RULES,
    }
    assert world.thresholds("b") == [2]
    assert world.thresholds("c") == []
    assert world.loads == [["+", "a", "b", "c"]]
    world.table = {"a": [rule(5)]}
    assert world.thresholds("a") == [1]
    world.version = b"2"
    assert (world.thresholds("a"), world.thresholds("b")) == ([5], [])
    assert world.loads == [["+", "a", "b", "c"], ["+", "a"], ["b"]]


def test_the_operators_rules_are_beside_those_of_each_user() -> None:
    """Also of users who have none. After a change of them a set is made again when it is asked for, from what
    is known of the user; once they are gone, the set is the user's own.
    """
    world = World()
    world.table = {"a": [rule(1)], "+": [rule(90)]}
    assert [world.thresholds(user) for user in "abc"] == [[1, 90], [90], [90]]
    assert list(world.sets.get("a")["a"].by_id) == ["temperature", "operator:temperature"]
    assert world.sets.get("ab") == world.sets.get("ab")
    assert world.sets.get("a")["a"] is world.sets.get("a")["a"]
    world.table["+"], world.version = [rule(95)], b"2"
    assert world.thresholds("b") == [95]
    world.loads.clear()
    assert world.thresholds("a") == [1, 95]
    assert world.loads == [["a"]]
    del world.table["+"]
    world.version = b"3"
    assert [world.thresholds(user) for user in "abc"] == [[1], [], []]
    assert world.sets.get("a")["a"] == parse_rules([rule(1)])


def test_a_change_of_a_group_makes_another_set() -> None:
    """The rules are the same, and are about other devices; without a change the set stays the same object."""
    world = World()
    world.table = {"a": [rule(1) | {"devices": "@cold"}]}
    world.groups = {"a": {"cold": frozenset({"f1"})}}
    before = world.sets.get(["a"])["a"]
    world.version = b"2"
    assert world.sets.get(["a"])["a"] is before
    world.version, world.groups = b"3", {"a": {"cold": frozenset({"f2"})}}
    after = world.sets.get(["a"])["a"]
    assert after != before
    assert [len(one.of_device(device).rules) for one in (before, after) for device in ("f1", "f2")] == [
        *(1, 0),
        *(0, 1),
    ]


def test_a_change_that_nobody_told_of_is_seen_in_time() -> None:
    """Without another number the rules are read again after a minute."""
    world = World()
    world.table = {"a": [rule(1)]}
    assert world.thresholds("a") == [1]
    world.table = {"a": [rule(2)]}
    world.now = RELOAD_SECONDS - 1
    assert world.thresholds("a") == [1]
    world.now = RELOAD_SECONDS
    assert world.thresholds("a") == [2]


def test_known_rules_stay_in_force_while_the_database_is_away() -> None:
    """Known users are judged by what was known; for others it is *not now*; not every call waits."""
    world = World()
    world.table = {"a": [rule(1)]}
    assert world.thresholds("a") == [1]
    world.away, world.version, world.table = True, b"2", {"a": [rule(2)], "b": [rule(3)]}
    assert world.thresholds("a") == [1]
    for _ in range(5):
        assert world.thresholds("a") == [1]
        with pytest.raises(RulesUnknown):
            world.sets.get(["a", "b"])
    assert len(world.loads) == 2
    world.away, world.now = False, TRY_AGAIN_SECONDS
    assert (world.thresholds("a"), world.thresholds("b")) == ([2], [3])


NONSENSE = {"id": "hum", "key": "humidity", "operator": "=>", "threshold": 60, "message": "humid"}


def test_an_invalid_rule_leaves_the_others_in_force() -> None:
    """And a worker that is started afterwards judges by the same rules as one that has seen others before."""
    world = World()
    world.table = {"a": [rule(1)], "b": [NONSENSE]}
    assert (world.thresholds("a"), world.thresholds("b")) == ([1], [])
    world.table, world.version = {"a": [rule(2), NONSENSE], "b": "nonsense"}, b"2"
    assert (world.thresholds("a"), world.thresholds("b")) == ([2], [])
    fresh = World()
    fresh.table = world.table
    assert (fresh.thresholds("a"), fresh.thresholds("b")) == ([2], [])


def test_memory_does_not_grow_with_the_users_that_were_ever_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first known are forgotten first, and none that is asked for now; who comes back is read again."""
    monkeypatch.setattr(module, "MAX_USERS", 3)
    world = World()
    world.table = {name: [rule(number)] for number, name in enumerate("abcde")}
    world.sets.get("abc")
    world.sets.get("ad")
    world.loads.clear()
    assert [world.thresholds(name) for name in "acdb"] == [[0], [2], [3], [1]]
    assert world.loads == [["b"]]
    assert len(world.sets.get("abcde")) == 5


def test_faults_say_where_in_the_document_they_are() -> None:
    """Those of misplaced rules, too, behind invalid ones."""
    lost = {"key": "t", "operator": ">", "threshold": 1, "message": "m", "domain": "nowhere"}
    found = placement.in_force([NONSENSE, rule(1), lost])
    assert [fault["path"] for fault in found.faults] == ["rules.0.operator", "rules.2.domain"]
    assert len(found.rules.rules) == 2
