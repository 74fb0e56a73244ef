"""An operator acts on alerts for their users, by command: the same way as over MQTT, with who and why."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tests.integration import fleet
from tests.integration.commands import sluice
from tests.integration.subscriber import Subscriber, subscriber

Database = psycopg.Connection[tuple[Any, ...]]
HOT = {"id": "hot", "key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}


@pytest.fixture
def listening(pipeline: Stack) -> Iterator[Subscriber]:
    """A user who listens to the own alerts."""
    with subscriber(pipeline, uuid4().hex[:8]) as one:
        yield one


def test_an_operator_acts_on_an_alert(pipeline: Stack, database: Database, listening: Subscriber) -> None:
    """The user hears of each change and whose it is; what is wrong or not possible changes nothing."""
    user = listening.user
    (device,) = fleet.devices(pipeline, [(user, "pump")])
    assert listening.ask("config", {"rules": [HOT]})["ok"]

    def alerts(action: str, *more: str, rule: str = "hot", code: int = 0) -> dict[str, Any]:
        done = sluice(pipeline, "alerts", action, user, "pump", rule, *more, "--json")
        assert done.returncode == code, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    early = alerts("acknowledge", code=1)
    assert "has no open alert" in early["errors"][0]["message"]
    device.publish(json.dumps({"sequence_id": 1, "temperature": 99}).encode())
    listening.told(1)
    both = alerts("acknowledge", "--note", " ", rule="x" * 300, code=1)
    assert {error["path"] for error in both["errors"]} == {"rule_id", "note"}
    assert alerts("acknowledge", "--note", "pump 2 is ordered", "--by", "ann") == {"ok": True}
    row = database.execute(
        "SELECT acknowledged_by, note FROM active_alerts WHERE user_id = %s", [user]
    ).fetchone()
    assert row == ("operator/ann", "pump 2 is ordered")
    assert alerts("snooze", "30") == {"ok": True}
    assert alerts("enable") == {"ok": True}
    assert alerts("disable") == {"ok": True}
    statuses = ["TRIGGERED", "ACKNOWLEDGED", "SNOOZED", "ENABLED", "DISABLED"]
    assert listening.told(5) == [("pump", status) for status in statuses]
    assert [notice.get("by", "")[:9] for notice in listening.notices] == ["", *["operator/"] * 4]
    assert listening.notices[1]["by"] == "operator/ann"
    plain = sluice(pipeline, "alerts", "enable", user, "pump", "nothing")
    assert plain.returncode == 1
    assert "there is no rule `nothing`" in plain.stderr
    assert "Traceback" not in plain.stderr
    audited = database.execute(
        "SELECT action, after ->> 'by' FROM operator_audit WHERE subject = 'active_alerts' AND key = %s"
        " ORDER BY id",
        [f"{user}/pump"],
    ).fetchall()
    refused = ["ACKNOWLEDGE", "ACKNOWLEDGE refused"], ["ENABLE", "ENABLE refused"]
    executed = ["ACKNOWLEDGE", "SNOOZE", "ENABLE", "DISABLE"]
    assert [action for action, _ in audited] == [*refused[0], *executed, *refused[1]]
    assert audited[2][1] == "operator/ann"
    fleet.disconnect([device])
