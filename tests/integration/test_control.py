"""Users' requests, through MQTT and SQL alone: answered, committed, effective, and never lost."""

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from tasks.servers.redis_client import RULES_VERSION
from tasks.servers.redis_client import client as redis_client
from tests.integration import fleet, pages
from tests.integration.commands import sluice
from tests.integration.fleet import wait_until
from tests.integration.refusals import refused
from tests.integration.rule_tables import write_unchecked
from tests.integration.user_program import HOT, User

pytestmark = pytest.mark.usefixtures("on_servers")

Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def user(pipeline: Stack, database: Database) -> Iterator[User]:
    """A user who is connected."""
    connected = User(pipeline, database)
    yield connected
    connected.client.disconnect()
    connected.client.loop_stop()


def test_rules_are_replaced_and_answered_by_their_number(user: User, database: Database) -> None:
    """When the answer comes the rules are in the table; the last document of several wins."""
    assert user.ask("config", {"rules": [HOT]}) == {"ok": True, "rules": 1}
    assert user.rules(database) == [HOT]
    documents = [
        {"rules": [{**HOT, "id": f"r{n}", "threshold": n} for n in range(count)]} for count in range(9)
    ]
    for document in documents:
        user.publish("config", document)
    wait_until(lambda: len(user.heard) == 10, 30, "all answers")
    assert [answer["rules"] for _, answer in user.heard[1:]] == list(range(9))
    assert user.rules(database) == documents[-1]["rules"]


def test_invalid_rules_change_nothing_and_name_every_error(user: User, database: Database) -> None:
    """Each fault comes with its path; so do what is no JSON, what is too large, and an unknown field."""
    assert user.ask("config", {"rules": [HOT]})["ok"]
    answer = user.ask("config", {"rules": [HOT, {"key": "battery", "operator": "=<", "treshold": 3}]})
    assert not answer["ok"]
    assert {error["path"] for error in answer["errors"]} == {
        "rules.1.operator",
        "rules.1.threshold",
        "rules.1.treshold",
        "rules.1.message",
    }
    assert "did you mean `<=`?" in next(e["message"] for e in answer["errors"] if "operator" in e["path"])
    for nonsense in (b"{", b"", b"\xff\x00", b"[" * 300_000, b"null"):
        answer = user.ask("config", nonsense)
        assert [error["path"] for error in answer["errors"]] == ["rules"], nonsense[:10]
    assert user.rules(database) == [HOT]


def test_an_answer_that_the_broker_refuses_is_counted_and_holds_up_nothing(
    user: User, database: Database, pipeline: Stack
) -> None:
    """The request is done, the log has the topic, and the user's other answers come."""

    def counted() -> float:
        return pages.value(pipeline, "control", "sluice_mqtt_publishes_refused_total", kind="answer")

    before = counted()
    with refused(pipeline, database, "users/+/config/status", f"users/{uuid4().hex}/config/status"):
        user.publish("config", {"rules": [HOT]})
        wait_until(lambda: counted() == before + 1, 30, "the refusal to be counted")
        assert user.rules(database) == [HOT]
        assert not user.ask("alerts/manage", {})["ok"]
    assert any(
        "answer_refused" in line and f"users/{user.id}/config/status" in line
        for line in pipeline.log("control").splitlines()
    )


def test_rules_by_sql_are_announced_at_once(user: User, database: Database, pipeline: Stack) -> None:
    """A plain UPDATE makes workers read the rules again, with no restart."""
    tracebacks = pipeline.log("control").count("Traceback")
    assert user.ask("config", {"rules": [HOT]})["ok"]
    time.sleep(2)  # the announcement of these rules
    before = redis_client().get(RULES_VERSION)
    database.execute("UPDATE user_configs SET rules = '[]' WHERE user_id = %s", [user.id])
    # A fifth of a second, as a rule; the poll beneath it would take five.
    wait_until(lambda: redis_client().get(RULES_VERSION) != before, 4, "the change to be announced")
    assert pipeline.log("control").count("Traceback") == tracebacks


def test_an_invalid_rule_by_sql_is_told_and_leaves_the_others_in_force(
    user: User, database: Database, pipeline: Stack
) -> None:
    """Also in a worker that is started afterwards; the operator sees it in the metric and the commands."""
    bad = {"id": "hum", "key": "humidity", "operator": "=>", "threshold": 60, "message": "humid"}
    write_unchecked(database, user.id, [HOT, bad])
    wait_until(lambda: bool(user.heard), 20, "the report")
    topic, report = user.heard[0]
    assert topic == "config/status"
    assert (report["ok"], report["rules"]) == (False, 1)
    assert [error["path"] for error in report["errors"]] == ["rules.1.operator"]
    wait_until(lambda: pages.value(pipeline, "control", "sluice_rules_invalid") >= 1, 20, "the metric")
    checked = sluice(pipeline, "rules", "check", "--stored")
    assert checked.returncode == 1
    assert f"{user.id}: rules.1.operator" in checked.stderr
    assert "   invalid " in sluice(pipeline, "status").stdout
    pipeline.stop("worker")
    pipeline.up(["worker"], prepare=False)
    device = fleet.connect(pipeline, provision.provision(database, accounts.device(user.id, "d1")))
    reading = json.dumps({"sequence_id": 1, HOT["key"]: 99}).encode()
    device.publish(f"users/{user.id}/devices/d1/telemetry", reading, qos=1).wait_for_publish(10)

    def triggered() -> bool:
        found = database.execute("SELECT rule_id FROM active_alerts WHERE user_id = %s", [user.id])
        return found.fetchall() == [("temperature",)]

    wait_until(triggered, 60, "the alert of the rule that is in force")
    device.disconnect()
    database.execute("UPDATE user_configs SET rules = '[]' WHERE user_id = %s", [user.id])
    wait_until(lambda: len(user.heard) > 1, 20, "that the rules are valid again")
    assert user.heard[1] == ("config/status", {"ok": True, "rules": 0})


def test_commands_are_answered(user: User, database: Database) -> None:
    """DISABLE and ENABLE of a rule work for a new device; what cannot be done is said, with every fault."""
    assert user.ask("config", {"rules": [HOT]})["ok"]
    provision.provision(database, accounts.device(user.id, "d1"))
    command = {"device_id": "d1", "rule_id": "temperature", "action": "DISABLE"}
    assert user.ask("alerts/manage", command) == {"ok": True}
    assert user.ask("alerts/manage", {**command, "action": "ENABLE"}) == {"ok": True}
    snooze = {**command, "action": "SNOOZE", "duration_minutes": 10}
    assert user.ask("alerts/manage", snooze) == {"ok": True}
    answer = user.ask("alerts/manage", {**command, "action": "ACKNOWLEDGE", "note": "on my way"})
    assert "has no open alert for this device" in answer["errors"][0]["message"]
    answer = user.ask("alerts/manage", {**command, "rule_id": "temprature"})
    assert "did you mean `temperature`?" in answer["errors"][0]["message"]
    answer = user.ask("alerts/manage", {"device_id": 1, "action": "snooze"})
    assert {error["path"] for error in answer["errors"]} == {"device_id", "rule_id", "action"}
    answer = user.ask("alerts/manage", b" " * 100_000)
    assert answer["errors"][0]["path"] == "command"


def test_a_request_survives_a_killed_control_process(user: User, database: Database, pipeline: Stack) -> None:
    """A request that was not acknowledged comes again to the next process, and is answered."""
    provision.provision(database, accounts.device(user.id, "d"))
    pipeline.stop("worker")
    for threshold in range(5):
        user.publish("config", {"rules": [{**HOT, "threshold": threshold}]})
    user.publish("alerts/manage", {"device_id": "d", "rule_id": "temperature", "action": "DISABLE"})
    fleet.kill(pipeline.pid("control"))
    pipeline.start("worker")
    wait_until(lambda: any(topic == "alerts/manage/status" for topic, _ in user.heard), 40, "the last answer")
    assert user.rules(database) == [{**HOT, "threshold": 4}]
    assert all(answer["ok"] for _, answer in user.heard)


def test_a_request_survives_a_flushed_redis(user: User, database: Database, pipeline: Stack) -> None:
    """A task that was lost with Redis is sent again."""
    pipeline.stop("worker")
    user.publish("config", {"rules": [HOT]})
    wait_until(lambda: bool(redis_client().keys("sluice:request:*")), 10, "the request to be sent")
    redis_client().flushall()
    pipeline.start("worker")
    wait_until(lambda: bool(user.heard), 40, "the answer")
    assert user.heard == [("config/status", {"ok": True, "rules": 1})]
    assert user.rules(database) == [HOT]


def test_what_the_broker_retained_undoes_nothing(user: User, database: Database, pipeline: Stack) -> None:
    """Retained rules count once; when they come again later, what was set since stays in force."""
    user.publish("config", {"rules": [HOT]}, retain=True)
    wait_until(lambda: bool(user.heard), 20, "the answer")
    database.execute("UPDATE user_configs SET rules = '[]' WHERE user_id = %s", [user.id])
    pipeline.restart("control")
    other = User(pipeline, database)
    assert other.ask("config", {"rules": [HOT]})["ok"]
    other.client.disconnect()
    other.client.loop_stop()
    assert user.rules(database) == []
    assert len(user.heard) == 1
    user.client.publish(f"users/{user.id}/config", b"", qos=1, retain=True).wait_for_publish(10)
