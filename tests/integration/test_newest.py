"""The memory of quiet devices' newest readings, by the time of their arrival."""

import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tasks.alerts import newest
from tasks.alerts.evaluate import evaluate
from tasks.batch.messages import REDELIVERED, Message
from tasks.domain.payload import Limits
from tasks.registry import default
from tasks.rows.validate import Received
from tasks.rules.order import Newest
from tasks.servers.redis_client import client
from tasks.servers.rules_version import announce_change
from tasks.telemetry import DOMAIN

Database = psycopg.Connection[tuple[Any, ...]]

HOUR_MS = 3_600_000


@pytest.mark.usefixtures("in_process")
def test_what_comes_again_is_known_by_a_gateway_whose_clock_is_an_hour_wrong() -> None:
    """Or was; what comes for the first time is compared with what came shortly before it alone."""
    device, known = (uuid4().hex[:8], "d"), Newest(5, 0, (1,))
    now_ms = round(time.time() * 1000)
    commands = client().pipeline(transaction=False)
    newest.note(commands, default(), {device: known}, {device: now_ms})
    commands.execute()
    for at_ms in (now_ms - HOUR_MS, now_ms, now_ms + HOUR_MS):
        assert newest.recall_any(default(), {device: at_ms}) == {device: known}
    assert newest.recall(default(), {device: now_ms - HOUR_MS}) == {}


RULES = [{"key": "a", "operator": ">", "threshold": 1, "message": "high"}]
HOT, COLD = {"a": 3}, {"a": 0}


class Fleet:
    """Devices of one user, judged in parts; times are seconds since the beginning of a half hour."""

    def __init__(self, database: Database) -> None:
        self.user, self.offset = uuid4().hex[:12], 0
        self.begin = int(time.time()) // 1800 * 1800
        insert = "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)"
        database.execute(insert, [self.user, json.dumps(RULES)])
        announce_change()

    def reading(
        self, device: str, came: float, measured_at: float, payload: dict[str, Any], replay: str = ""
    ) -> Received:
        """A reading that came, and was measured, then; its time is its sequence id."""
        self.offset += 1
        topic = f"users/{self.user}/devices/{device}/telemetry"
        measured = datetime.fromtimestamp(self.begin + measured_at, UTC).isoformat()
        written = json.dumps({"sequence_id": round(measured_at), "time": measured, **payload}).encode()
        at_ms = round((self.begin + came) * 1000)
        message = Message(0, self.offset, at_ms, topic, "", 0, written, replay)
        return Received(message, DOMAIN.validate(topic, written, at_ms, Limits()))

    def judge(self, *readings: Received) -> list[str]:
        """Judges them as one part; returns the changes."""
        return [change.status for change in evaluate(DOMAIN, list(readings)).changes]


@pytest.mark.usefixtures("in_process")
def test_a_part_that_began_in_an_earlier_half_hour_is_remembered_to_its_end(database: Database) -> None:
    """After an outage one part has the readings of an hour: an older one that comes after it is late."""
    fleet = Fleet(database)
    backlog = [fleet.reading("d", came, came, COLD) for came in range(-1500, 1200, 300)]
    assert fleet.judge(*backlog) == []
    assert fleet.judge(fleet.reading("d", 960, 890, HOT)) == []


@pytest.mark.usefixtures("in_process")
def test_what_a_neighbour_gets_again_changes_nothing_for_others(database: Database) -> None:
    """A clock was ahead and is right again: that its neighbour's reading is redelivered does not matter."""
    fleet = Fleet(database)
    assert fleet.judge(fleet.reading("d", 1700, 5300, COLD)) == []
    assert fleet.judge(fleet.reading("d", 1810, 1810, COLD)) == []
    again = fleet.reading("other", 1815, 1815, COLD, REDELIVERED)
    assert fleet.judge(again, fleet.reading("d", 1815, 1805, HOT)) == []


@pytest.mark.usefixtures("in_process")
def test_what_comes_again_does_not_set_back_what_is_known(database: Database) -> None:
    """The newest reading stays what it was, though one of an earlier half hour has the later own time."""
    fleet = Fleet(database)
    assert fleet.judge(fleet.reading("d", 1700, 5300, COLD)) == []
    last = fleet.reading("d", 1810, 1810, COLD)
    assert fleet.judge(last) == []
    again = last._replace(message=last.message._replace(replay=REDELIVERED, offset=1000))
    assert fleet.judge(again) == []
    assert fleet.judge(fleet.reading("d", 1815, 1805, HOT)) == []
