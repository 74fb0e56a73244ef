"""The examples for off-the-shelf devices, all in one deployment, by the promises of docs/devices.md."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from compose.local.stack import Stack
from tasks import registry
from tasks.domain.domain import AnyDomain
from tests.conftest import DeadLetters
from tests.device_page import Promise, promises
from tests.integration import fleet
from tests.integration.announced import announced
from tests.integration.deployment import serving, sluice
from tests.integration.lag import wait_for_no_lag

Database = psycopg.Connection[tuple[Any, ...]]

PROMISES = promises()
MODULES = list(dict.fromkeys(one.file[:-3].replace("/", ".") for one in PROMISES))


@pytest.fixture(scope="module")
def deployment(stack: Stack) -> Iterator[Stack]:
    """The telemetry and all examples."""
    with serving(stack, "tasks.telemetry", *MODULES) as running:
        yield running


def domain_of(promise: Promise) -> AnyDomain:
    """The domain of a message of the page."""
    return registry.by_name(promise.file.split("/")[1].removesuffix(".py"))


def account(promise: Promise) -> tuple[str, str]:
    """The user and the device whose account may publish it."""
    domain = domain_of(promise)
    if domain.user_id is None:
        source = domain.parse_topic(promise.topic)
        return source.user_id, domain.source_id(source.device_id)
    return domain.user_id, domain.account


def published(stack: Stack, sent: list[Promise]) -> None:
    """Publishes the messages in their order."""
    names = list(dict.fromkeys(map(account, sent)))
    clients = dict(zip(names, fleet.devices(stack, names), strict=True))
    try:
        for one in sent:
            clients[account(one)].publish(one.payload, one.topic)
        for client in clients.values():
            client.await_acknowledged()
    finally:
        fleet.disconnect(list(clients.values()))


def stored(database: Database, domain: AnyDomain, begin: datetime) -> list[dict[str, Any]]:
    """The rows of a domain as the page shows them."""
    found = []
    for (row,) in database.execute(f"SELECT to_jsonb(t) FROM {domain.table} AS t").fetchall():
        kept = {name: row[name] for name in row if row[name] not in (None, {}) and name != "reading_id"}
        time = datetime.fromisoformat(kept["time"])
        found.append({**kept, "time": "arrival" if time >= begin else time.astimezone(UTC)})
    return found


def as_stored(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the page with its time as a time."""
    return {**row, "time": row["time"] if row["time"] == "arrival" else datetime.fromisoformat(row["time"])}


def in_order(rows: list[dict[str, Any]]) -> list[str]:
    """Rows to compare, in any order; for JSON 100 and 100.0 are one number."""
    plain = [json.loads(json.dumps(row, default=str), parse_int=float) for row in rows]
    return sorted(json.dumps(row, sort_keys=True) for row in plain)


def test_what_the_page_promises_is_stored(deployment: Stack, database: Database) -> None:
    """Each reading is one row, what is refused is a dead letter of its domain, and nothing else is there."""
    domains = {promise.file: domain_of(promise) for promise in PROMISES}
    letters = {
        file: DeadLetters(deployment.env["KAFKA_BOOTSTRAP_SERVERS"], domain.qualified("iot-stream-dlq"))
        for file, domain in domains.items()
    }
    for domain in domains.values():
        database.execute(f"TRUNCATE {domain.table}")
    begin = datetime.now(UTC)
    published(deployment, PROMISES)
    rows: dict[str, list[dict[str, Any]]] = {file: [] for file in domains}
    for one in PROMISES:
        rows[one.file] += map(as_stored, one.rows)
    for file, domain in domains.items():
        fleet.wait_until(
            lambda file=file, domain=domain: len(stored(database, domain, begin)) >= len(rows[file]),  # type: ignore[misc]
            180,
            f"the rows of {file}",
        )
        wait_for_no_lag(deployment, domain.qualified("iot-stream"))
    for file, domain in domains.items():
        assert in_order(stored(database, domain, begin)) == in_order(rows[file])
        dead = {
            key: (letter["original_topic"], base64.b64decode(letter["payload_base64"]), letter["error"])
            for key, letter in letters[file].read()
        }
        assert Counter(dead.values()) == Counter(
            (one.topic, one.payload, reason)
            for one in PROMISES
            if one.file == file and one.refused
            for reason in [_reason(one)]
        )
        letters[file].close()
        verified = sluice(deployment, "verify", "--domain", domain.name, "--since", "1h", "--json")
        balance = json.loads(verified.stdout)
        assert verified.returncode == 0, verified.stdout
        assert balance["missing"] == 0


def _reason(promise: Promise) -> str:
    """The reason in the dead letter, which names a reading by its index where there are several."""
    _, _, reason = promise.refused[0].partition(": ")
    if not promise.rows:
        return reason
    total = len(promise.rows) + len(promise.refused)
    return f"{len(promise.refused)} of {total} readings are wrong, by index 0: [0] {reason}"


def test_a_message_that_comes_again_is_stored_once(deployment: Stack, database: Database) -> None:
    """With a time of their own readings are duplicates, in whichever message they come."""
    timed = [one for one in PROMISES if one.rows and all(row["time"] != "arrival" for row in one.rows)]
    published(deployment, timed)
    for domain in {domain_of(one).name: domain_of(one) for one in timed}.values():
        wait_for_no_lag(deployment, domain.qualified("iot-stream"))
    before = {one.file: len(stored(database, domain_of(one), datetime.now(UTC))) for one in timed}
    published(deployment, timed)
    for file, count in before.items():
        domain = next(domain_of(one) for one in timed if one.file == file)
        wait_for_no_lag(deployment, domain.qualified("iot-stream"))
        assert len(stored(database, domain, datetime.now(UTC))) == count


def test_rules_judge_the_readings_of_one_message_in_their_order(
    deployment: Stack, database: Database
) -> None:
    """About the device that the payload names: each change is one alert of its own."""
    rule = {"id": "much", "domain": "thingsboard", "key": "power", "operator": ">", "threshold": 900}
    with announced(deployment):
        database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES ('home', %s)"
            " ON CONFLICT (user_id) DO UPDATE SET rules = excluded.rules",
            [json.dumps([rule | {"message": "much"}])],
        )
    start = int(datetime.now(UTC).timestamp()) - 60
    entries = [{"ts": start + n, "values": {"power": power}} for n, power in enumerate([800, 950, 800, 951])]
    payload = json.dumps({"Meter 9": entries, "Meter 8": entries[:1]}).encode()
    file = "examples/thingsboard.py"
    published(deployment, [Promise(file, "v1/gateway/telemetry", payload, [], ignored=False, refused=[])])

    def changes() -> list[tuple[Any, ...]]:
        return database.execute(
            "SELECT status, value, device_id FROM alert_history WHERE user_id = 'home' ORDER BY number"
        ).fetchall()

    fleet.wait_until(lambda: len(changes()) >= 3, 60, "the alerts")
    meter = "thingsboard/Meter 9"
    assert changes() == [("TRIGGERED", 950, meter), ("RESOLVED", 800, meter), ("TRIGGERED", 951, meter)]


def test_a_replay_of_a_letter_about_some_readings_doubles_none(deployment: Stack, database: Database) -> None:
    """The readings that are rows are known again, also without a time of their own."""
    payload = b'{"Meter 7": [{"values": {"power": 1}}, {"ts": "yesterday", "values": {"power": 2}}]}'
    file = "examples/thingsboard.py"
    sent = Promise(file, "v1/gateway/telemetry", payload, [], ignored=False, refused=[])
    domain = domain_of(sent)

    def meter() -> list[tuple[Any, ...]]:
        return database.execute("SELECT power FROM raw_thingsboard WHERE device = 'Meter 7'").fetchall()

    published(deployment, [sent])
    wait_for_no_lag(deployment, domain.qualified("iot-stream"))
    assert meter() == [(1,)]
    done = sluice(deployment, "dlq", "replay", "--domain", "thingsboard", "--json")
    assert done.returncode == 1, done.stderr  # what was wrong is still wrong
    wait_for_no_lag(deployment, domain.qualified("iot-stream"))
    assert meter() == [(1,)]
