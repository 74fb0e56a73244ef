"""Groups of devices: rules follow their changes, whichever way they come, and nobody has too many."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tasks.alerts.rule_cache import rule_sets
from tasks.servers.rules_version import announce_change
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.commands import sluice
from tests.integration.rule_tables import write
from tests.integration.subscriber import subscriber

Database = psycopg.Connection[tuple[Any, ...]]
ADD = "INSERT INTO device_groups (user_id, group_name, device_id) VALUES (%s, %s, %s)"


def command(stack: Stack) -> Callable[..., str]:
    """`sluice groups`, which prints what it returns."""

    def run(*arguments: str, code: int = 0, stdin: str = "") -> str:
        done = sluice(stack, "groups", *arguments, stdin=stdin)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run


def test_a_rule_follows_its_group(pipeline: Stack, database: Database) -> None:
    """Devices that come by command or by SQL are judged, with the limits of their group; the alert of one
    that leaves is resolved without a reading. A group without devices is accepted with a warning.
    """
    user, groups = uuid4().hex[:8], command(pipeline)
    first, second = fleet.devices(pipeline, [(user, "f1"), (user, "f2")])
    rule = {
        "id": "warm",
        "key": "temperature",
        "operator": ">",
        "threshold": 8,
        "devices": ["@cold", "@new"],
        "overrides": {"@new": {"threshold": 20}},
        "message": "warm",
    }

    def send(number: int, *values: tuple[fleet.Device, float]) -> None:
        for device, value in values:
            device.publish(json.dumps({"sequence_id": number, "temperature": value}).encode())
            device.await_acknowledged()

    with subscriber(pipeline, user) as listening:
        answer = listening.ask("config", {"rules": [rule]})
        assert answer["ok"]
        assert [(one["path"], one["message"]) for one in answer["warnings"]] == [
            ("rules.0.devices[0]", "no device is in the group `cold`"),
            ("rules.0.devices[1]", "no device is in the group `new`"),
            ("rules.0.overrides.@new", "no device is in the group `new`"),
        ]
        send(1, (first, 10), (second, 15))
        with announced(pipeline):
            told = groups("add", user, "cold", "f1", "--from", "-", stdin="f1\n\nodd one\n")
        assert f"2 devices added; {user}/cold has 2" in told
        assert "without an account and a message so far: 1 (odd one)" in told
        send(2, (first, 11), (second, 15))
        assert listening.told(1) == [("f1", "TRIGGERED")]
        with announced(pipeline):
            database.execute(ADD, [user, "new", "f2"])
        assert "warnings" not in listening.ask("config", {"rules": [rule]})
        send(3, (second, 19))
        send(4, (second, 21))
        assert listening.told(2)[1:] == [("f2", "TRIGGERED")]
        assert listening.notices[1]["value"] == 21
        assert listening.notices[1]["threshold"] == 20
        groups("remove", user, "cold", "f1")
        assert listening.told(3)[2:] == [("f1", "RESOLVED")]
        assert listening.notices[2]["reason"] == "rule_removed"
        with announced(pipeline):
            database.execute("UPDATE device_groups SET group_name = 'cold' WHERE user_id = %s", [user])
        send(5, (second, 9))
        database.execute("DELETE FROM device_groups WHERE user_id = %s", [user])
        assert listening.told(4)[3:] == [("f2", "RESOLVED")]
        assert listening.notices[3]["reason"] == "rule_removed"
    fleet.disconnect([first, second])


def test_groups_are_bounded_and_on_record(stack: Stack, database: Database, in_process: None) -> None:
    """Too many, and what could not be a name, are refused as a whole; every statement is one line of the
    trail; a process reads the groups of those users alone whose groups have changed.
    """
    assert in_process is None
    user, other, groups = uuid4().hex[:8], uuid4().hex[:8], command(stack)
    with pytest.raises(
        psycopg.errors.CheckViolation, match=r"would have 10001 devices; 10000 is the maximum"
    ):
        database.execute(
            "INSERT INTO device_groups (user_id, group_name, device_id)"
            " SELECT %s, 'g', 'd' || n FROM generate_series(1, 10001) AS n",
            [user],
        )
    with pytest.raises(psycopg.errors.CheckViolation, match=r"would have 101 groups; 100 is the maximum"):
        database.execute(
            "INSERT INTO device_groups (user_id, group_name, device_id)"
            " SELECT %s, 'g' || n, 'd' FROM generate_series(1, 101) AS n",
            [user],
        )
    for row in ([user, "a group", "d"], [user, "g", "d\te"], [user, "@g", "d"], [user, "g", ""]):
        with pytest.raises(psycopg.errors.CheckViolation):
            database.execute(ADD, row)
    assert "cannot be the name of a group" in groups("add", user, "@cold", "d", code=1)
    assert "The device id d+ must not contain '+'" in groups("add", user, "cold", "d", "d+", code=1)
    assert "give the ids of devices" in groups("add", user, "cold", code=2)
    assert f"The user {user} has no group cold; there are no groups" in groups("show", user, "cold", code=1)
    assert "0 groups" in groups("list", user)

    write(database, user, [{"operator": "absent", "for_seconds": 9, "devices": "@cold", "message": "gone"}])
    write(database, other, [{"operator": "absent", "for_seconds": 9, "devices": "@cold", "message": "gone"}])
    groups("add", user, "cold", "d2", "d1")
    database.execute(ADD, [other, "cold", "d1"])
    announce_change()
    sets = rule_sets([user, other])
    assert [len(sets[user].of_device(one).rules) for one in ("d1", "d2", "d3")] == [1, 1, 0]
    assert groups("add", user, "cold", "d1") == (
        f"0 devices added; {user}/cold has 2\nwithout an account and a message so far: 1 (d1)\n"
    )
    shown = json.loads(groups("show", user, "cold", "--json"))
    assert shown == {"user_id": user, "group_name": "cold", "devices": ["d1", "d2"], "rules": ["absent"]}
    assert groups("show", user, "cold") == "d1\nd2\n2 devices; named by absent\n"
    assert f"{user}/cold  devices: 2  last added " in groups("list", user)
    groups("remove", user, "cold", "--all")
    announce_change()
    again = rule_sets([user, other])
    assert again[other] is sets[other]
    assert not again[user].of_device("d1").rules
    trail = database.execute(
        "SELECT action, before, after FROM operator_audit WHERE subject = 'device_groups' AND key = %s"
        " ORDER BY id",
        [user],
    ).fetchall()
    assert [(action, *map(_members, (before, after))) for action, before, after in trail] == [
        ("INSERT", None, ["d1", "d2"]),
        ("DELETE", ["d1", "d2"], None),
    ]


def test_rules_are_read_before_the_tables_of_groups_are_there(database: Database, in_process: None) -> None:
    """By workers that are newer than the schema; their rules name no groups yet."""
    assert in_process is None
    user = uuid4().hex[:8]
    write(database, user, [{"operator": "absent", "for_seconds": 9, "message": "gone"}])
    database.execute("ALTER TABLE device_group_versions RENAME TO set_aside")
    try:
        assert len(rule_sets([user])[user].rules) == 1
    finally:
        database.execute("ALTER TABLE set_aside RENAME TO device_group_versions")


def _members(groups: dict[str, list[str]] | None) -> list[str] | None:
    return None if groups is None else sorted(groups["cold"])
