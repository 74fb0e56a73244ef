"""Users read back over MQTT the rules in force and the open alerts: their own, whole, up to date."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from tests.conftest import PROJECT
from tests.integration import fleet
from tests.integration.fleet import wait_until
from tests.integration.rule_tables import write_unchecked
from tests.integration.user_program import HOT, User

pytestmark = pytest.mark.usefixtures("on_servers")

Database = psycopg.Connection[tuple[Any, ...]]
COLD = {"id": "cold", "all": [{"key": "temperature", "operator": "<", "threshold": 0}], "message": "cold"}


class Reader(User):
    """A user's program that reads back, and knows which answer came where and for which question."""

    def __init__(self, stack: Stack, database: Database) -> None:
        super().__init__(stack, database)
        self.answers: list[tuple[str, bytes, dict[str, Any]]] = []
        self.notices: list[dict[str, Any]] = []
        heard: list[int] = []
        self.client.on_subscribe = lambda *_: heard.append(1)
        topics = ("rules", "alerts/open", "responses/#", "alerts")
        self.client.subscribe([(f"users/{self.id}/{topic}", 1) for topic in topics])
        wait_until(lambda: bool(heard), 10, "the subscriptions")

    def _on_message(self, client: Client, data: object, message: MQTTMessage) -> None:
        topic = message.topic.removeprefix(f"users/{self.id}/")
        if topic == "alerts":
            self.notices.append(json.loads(message.payload))
        elif topic in {"rules", "alerts/open"} or topic.startswith("responses/"):
            correlation = getattr(message.properties, "CorrelationData", b"")
            self.answers.append((topic, correlation, json.loads(message.payload)))
        else:
            super()._on_message(client, data, message)

    def read(
        self, what: str, respond_on: str = "", correlation: bytes = b"", **query: Any
    ) -> tuple[str, bytes, dict[str, Any]]:
        """The answer to a query, where it came, and with which correlation data."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if respond_on:
            properties.ResponseTopic = respond_on
        if correlation:
            properties.CorrelationData = correlation
        before = len(self.answers)
        payload = json.dumps(query).encode() if query else b""
        self.client.publish(f"users/{self.id}/{what}/get", payload, qos=1, properties=properties)
        wait_until(lambda: len(self.answers) > before, 30, f"the {what}")
        return self.answers[before]


@pytest.fixture
def reader(pipeline: Stack, database: Database) -> Iterator[Reader]:
    """A user who is connected."""
    connected = Reader(pipeline, database)
    yield connected
    connected.client.disconnect()
    connected.client.loop_stop()


def test_the_rules_in_force_are_read_back_where_the_sender_wants(reader: Reader, database: Database) -> None:
    """As they were sent; a topic of somebody else's, or one that is refused, gives way to the usual one."""
    gone = {"key": "temperature", "id": "gone", "operator": "absent", "for_seconds": 60, "message": "gone"}
    rules = [HOT, COLD, gone]
    assert reader.read("rules")[2]["rules"] == []
    assert reader.ask("config", {"rules": rules}) == {"ok": True, "rules": 3}
    mine = f"users/{reader.id}/responses/7"
    assert reader.read("rules", mine, b"\x00\xff", id="q 1") == (
        "responses/7",
        b"\x00\xff",
        {"ok": True, "rules": rules, "total": 3, "id": "q 1"},
    )
    # Another user's, a request's own, one that only a change of rights would allow, and none.
    unusual = (
        "users/other/responses/7",
        f"users/{reader.id}/rules/get",
        f"users/{reader.id}/elsewhere",
        "",
    )
    for wanted in unusual:
        topic, correlation, answer = reader.read("rules", wanted, b"c", limit=2)
        assert (topic, correlation) == ("rules", b"c")
        assert (answer["rules"], answer["next"], answer["total"]) == (rules[:2], 2, 3)
        assert answer["id"]
    _, _, rest = reader.read("rules", after=2)
    assert rest["rules"] == rules[2:]
    assert "next" not in rest
    _, _, refused = reader.read("rules", id="q2", limit=0, colour="red")
    assert (refused["ok"], refused["id"]) == (False, "q2")
    assert {error["path"] for error in refused["errors"]} == {"limit", "colour"}
    write_unchecked(database, reader.id, [HOT, {"key": 1}])
    _, _, partly = reader.read("rules")
    assert partly["rules"] == [HOT]
    assert all(one["message"].endswith("the rule is not in force") for one in partly["warnings"])
    assert len(reader.answers) == 9
    assert reader.client.is_connected()


def test_open_alerts_are_read_back_with_all_that_was_told(reader: Reader, pipeline: Stack) -> None:
    """Whatever a user has heard of an alert is in the answer; pages hold each one once; the end ends them."""
    assert reader.ask("config", {"rules": [HOT, COLD]})["ok"]
    devices = fleet.devices(pipeline, [(reader.id, name) for name in ("a", "b", "c")])
    for device in devices:
        device.publish(json.dumps({"sequence_id": 1, "time": _now(), "temperature": 99}).encode())
        device.await_acknowledged()
    wait_until(lambda: len(reader.notices) == 3, 60, "the alerts")
    topic, _, answer = reader.read("alerts")
    assert topic == "alerts/open"
    assert [one["device_id"] for one in answer["alerts"]] == ["a", "b", "c"]
    told = {notice["alert_id"]: notice for notice in reader.notices}
    for one in answer["alerts"]:
        notice = told[one["alert_id"]]
        for name in ("status", "rule_id", "message", "value", "count", "first_seen", "sequence_id"):
            assert one[name] == notice[name]
    about = {"device_id": "b", "rule_id": "temperature"}
    assert reader.ask("alerts/manage", {**about, "action": "ACKNOWLEDGE", "note": "on it"}) == {"ok": True}
    disabled = {"device_id": "c", "rule_id": "cold", "action": "DISABLE"}
    assert reader.ask("alerts/manage", disabled) == {"ok": True}
    _, _, first = reader.read("alerts", limit=2)
    assert [one["device_id"] for one in first["alerts"]] == ["a", "b"]
    assert (first["alerts"][1]["note"], first["alerts"][1]["acknowledged_by"]) == ("on it", reader.id)
    _, _, second = reader.read("alerts", limit=2, after=first["next"], silenced=True)
    assert [(one["rule_id"], one["status"]) for one in second["alerts"]] == [
        ("cold", "DISABLED"),
        ("temperature", "TRIGGERED"),
    ]
    assert "next" not in second
    _, _, of_one = reader.read("alerts", device_id="b")
    assert [one["device_id"] for one in of_one["alerts"]] == ["b"]
    assert reader.ask("config", {"rules": []})["ok"]
    wait_until(lambda: not reader.read("alerts", silenced=True)[2]["alerts"], 60, "the end of the alerts")
    fleet.disconnect(devices)


def _now() -> str:
    return datetime.now(UTC).isoformat()


def test_accounts_that_there_are_get_the_rights_of_reading_back(stack: Stack, database: Database) -> None:  # noqa: ARG001
    """The migration, run a second time, on accounts of each kind that lack them."""
    run = f"u{uuid4().hex[:8]}"
    made = [accounts.device(run, "50%"), accounts.user(run), accounts.service(f"s{run}")]
    for account in made:
        provision.provision(database, account)
    names = [account.username for account in made]
    rights = "SELECT username, action, topic FROM mqtt_acl WHERE username = ANY(%s)"
    expected = {(account.username, *right) for account in made for right in accounts.acl(account)}
    whole = (PROJECT / "sql" / "0023_rules_read_back.sql").read_bytes()
    migration = whole.partition(b"CREATE TABLE")[0]
    new = "^users/[^/]+/(rules|rules/get|alerts/get|alerts/open|responses/#)$"
    database.execute("DELETE FROM mqtt_acl WHERE username = ANY(%s) AND topic ~ %s", [names, new])
    assert len(database.execute(rights, [names]).fetchall()) == len(expected) - 10
    for _ in range(2):
        database.execute(migration)
        assert set(database.execute(rights, [names]).fetchall()) == expected
