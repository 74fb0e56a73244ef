"""Alert states in Redis: written all or not at all, with the changes to publish, and never believed lost."""

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tasks.alerts import state_store
from tasks.rules.change import Change
from tasks.rules.machine import Changes
from tasks.rules.state import DeviceState
from tasks.servers.redis_client import ALERTS_READY, OUTBOX, alert_key, client
from tests.integration.hot_states import judge, reading

pytestmark = pytest.mark.usefixtures("in_process")


def told(user_id: str) -> list[dict[str, Any]]:
    """The outbox entries about the user's devices."""
    read: Any = client().xrange(OUTBOX)
    entries = [json.loads(fields[b"entry"]) for _, fields in read]
    return [entry for entry in entries if entry["user_id"] == user_id]


def statuses(changes: list[Change]) -> list[str]:
    """The content of the changes."""
    return [change.status for change in changes]


def test_a_state_and_what_there_is_to_tell_are_written_together() -> None:
    """A violated rule is remembered, and published once, however often the reading comes."""
    user = uuid4().hex[:8]
    for _ in range(3):
        state_store.transact([(user, "d")], lambda state: judge(state, reading(1, 90.0)))
    assert [[c["record"]["status"] for c in entry["changes"]] for entry in told(user)] == [["TRIGGERED"]]
    assert (
        state_store.transact([(user, "d")], lambda state: judge(state, reading(2, 20.0)))[0].status
        == "RESOLVED"
    )
    assert [entry["gone"] for entry in told(user)] == [[], ["temperature"]]


def test_another_writer_is_noticed_and_the_reading_judged_again() -> None:
    """The second writer decides on what the first has written, so that nothing is published twice."""
    user = uuid4().hex[:8]
    seen: list[DeviceState] = []

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        if not seen:
            state_store.transact([(user, "d")], lambda other: judge(other, reading(1, 90.0)))
        seen.append(state)
        return judge(state, reading(1, 90.0), reading(2, 20.0))

    assert statuses(state_store.transact([(user, "d")], decide)) == ["RESOLVED"]
    assert len(seen) == 2
    assert [c["record"]["status"] for entry in told(user) for c in entry["changes"]] == [
        "TRIGGERED",
        "RESOLVED",
    ]


def test_one_conflict_among_many_devices_writes_nothing() -> None:
    """A commit is all or nothing."""
    user = uuid4().hex[:8]
    attempts: list[str] = []

    def decide(state: DeviceState) -> tuple[DeviceState, Changes]:
        if state.device_id == "d2" and "d2" not in attempts:
            client().set(alert_key(user, "d2"), DeviceState(user, "d2", number=5).pack())
            assert client().get(alert_key(user, "d1")) is None
        attempts.append(state.device_id)
        return judge(state, reading(1, 90.0))

    changes = state_store.transact([(user, "d1"), (user, "d2")], decide)
    assert attempts == ["d1", "d2", "d1", "d2"]
    assert [(change.device_id, change.number) for change in changes] == [("d1", 1), ("d2", 6)]


def test_lost_states_are_rebuilt_before_anything_is_judged(
    database: psycopg.Connection[tuple[Any, ...]],
) -> None:
    """After a flushed Redis an open alert is still open: the next violation publishes nothing new."""
    user = uuid4().hex[:8]
    (triggered,) = state_store.transact([(user, "d")], lambda state: judge(state, reading(1, 90.0)))
    (entry,) = told(user)
    (row,) = entry["written"]
    columns = ", ".join(row)
    marks = ", ".join("%s::text::jsonb" if name in {"threshold", "value"} else "%s" for name in row)
    values = [json.dumps(v) if name in {"threshold", "value"} else v for name, v in row.items()]
    database.execute(f"INSERT INTO active_alerts ({columns}) VALUES ({marks})", values)
    client().delete(ALERTS_READY, alert_key(user, "d"))
    assert state_store.transact([(user, "d")], lambda state: judge(state, reading(2, 91.0))) == []
    (resolved,) = state_store.transact([(user, "d")], lambda state: judge(state, reading(3, 20.0)))
    assert (resolved.status, resolved.alert_id) == ("RESOLVED", triggered.alert_id)
