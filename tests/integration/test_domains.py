"""Every domain end to end, all in one deployment: rows, dead letters and alerts, each in its own place."""

import base64
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tests.conftest import DeadLetters
from tests.integration import commands, fleet
from tests.integration.announced import announced
from tests.integration.commands import run_page
from tests.integration.deployment import serving, sluice
from tests.integration.lag import wait_for_no_lag
from tests.integration.samples import (
    FINANCE,
    LOGISTICS,
    MODULES,
    SAMPLES,
    TELEMETRY,
    Payload,
    Sample,
    written,
)
from tests.integration.subscriber import subscriber

Database = psycopg.Connection[tuple[Any, ...]]
Sent = dict[str, list[Payload]]

START = datetime(2026, 5, 1, 10, tzinfo=UTC)
BAD_EVERY = 20

every_domain = pytest.mark.parametrize("sample", SAMPLES, ids=[sample.domain.name for sample in SAMPLES])


@pytest.fixture(scope="module")
def deployment(stack: Stack) -> Iterator[Stack]:
    """All three domains in one deployment."""
    with serving(stack, *MODULES) as running:
        yield running


@pytest.fixture
def letters(deployment: Stack) -> Iterator[dict[str, DeadLetters]]:
    """The dead letters of this test, by domain."""
    opened = {
        sample.domain.name: DeadLetters(
            deployment.env["KAFKA_BOOTSTRAP_SERVERS"], sample.domain.qualified("iot-stream-dlq")
        )
        for sample in SAMPLES
    }
    yield opened
    for one in opened.values():
        one.close()


class Sources:
    """Connected sources of one domain, with accounts that `sluice provision device` would make."""

    def __init__(
        self, stack: Stack, sample: Sample, run: str, count: int = 3, *, beside: "Sources | None" = None
    ) -> None:
        self.sample, self.user = sample, sample.owner(run)
        names = [sample.source(run, number) for number in range(count)]
        # One account serves all domains; made again, it would have another password.
        self._shared = beside is not None and beside.user == self.user
        self._devices: list[fleet.Device] = (
            beside._devices
            if beside is not None and self._shared
            else fleet.devices(stack, [(self.user, name) for name in names])
        )
        self.topics = [sample.topic(self.user, name) for name in names]
        self.good: Sent = {name: [] for name in names}
        self.bad: Counter[tuple[str, bytes]] = Counter()

    def send(self, payload: Payload, number: int = 0) -> None:
        """A message of one of the sources, which must become a row."""
        device = self._devices[number % len(self._devices)]
        self.good[device.device].append(payload)
        device.publish(written(payload), self.sample.topic(self.user, device.device))

    def send_bad(self, payload: Payload, number: int = 0) -> None:
        """One that must become a dead letter."""
        device = self._devices[number % len(self._devices)]
        topic, spoilt = self.sample.topic(self.user, device.device), written(payload | self.sample.spoil)
        self.bad[topic, spoilt] += 1
        device.publish(spoilt, topic)

    def await_acknowledged(self) -> None:
        """Returns when the broker has everything."""
        for device in self._devices:
            device.await_acknowledged(60)

    def close(self) -> None:
        """Ends the connections."""
        if not self._shared:
            fleet.disconnect(self._devices)


def rows(database: Database, sample: Sample, source: str) -> list[tuple[Any, ...]]:
    """The stored rows of a source, in the order of time."""
    domain = sample.domain
    return database.execute(
        f"SELECT {', '.join(sample.columns)} FROM {domain.table} WHERE {domain.source} = %s ORDER BY time",
        [source],
    ).fetchall()


def found_dead(letters: DeadLetters, run: str) -> Counter[tuple[str, bytes]]:
    """Topic and payload of the run's dead letters, each once by its key."""
    by_key = {
        key: (letter["original_topic"], base64.b64decode(letter["payload_base64"]))
        for key, letter in letters.read()
        if run in letter["original_topic"]
    }
    return Counter(by_key.values())


def assert_all_there(
    stack: Stack, database: Database, sources: Sources, letters: dict[str, DeadLetters], run: str
) -> None:
    """Each good message is one row, equal to it, and each bad one a dead letter of this domain alone."""
    sample = sources.sample

    def stored() -> int:
        return sum(len(rows(database, sample, source)) for source in sources.good)

    expected = sum(map(len, sources.good.values()))
    fleet.wait_until(lambda: stored() >= expected, 120, f"the rows of {sample.domain.name}")
    wait_for_no_lag(stack, sample.domain.qualified("iot-stream"))
    for source, payloads in sources.good.items():
        assert rows(database, sample, source) == [sample.row(payload) for payload in payloads]
    assert found_dead(letters[sample.domain.name], run) == sources.bad


@every_domain
def test_every_message_becomes_one_row_or_one_dead_letter(
    deployment: Stack, database: Database, letters: dict[str, DeadLetters], sample: Sample
) -> None:
    """By MQTT, a twentieth of it bad: all rows are there and equal, the others are the domain's letters."""
    run = uuid4().hex[:8]
    sources = Sources(deployment, sample, run)
    for number in range(1000):
        payload = sample.make(number, START + timedelta(seconds=number))
        (sources.send if number % BAD_EVERY else sources.send_bad)(payload, number)
    sources.await_acknowledged()
    assert_all_there(deployment, database, sources, letters, run)
    sources.close()


@every_domain
def test_a_message_that_comes_again_is_the_same_row(
    deployment: Stack, database: Database, letters: dict[str, DeadLetters], sample: Sample
) -> None:
    """By the domain's own primary key."""
    run = uuid4().hex[:8]
    sources = Sources(deployment, sample, run, count=1)
    payload = sample.make(1, START)
    sources.send(payload)
    sources.send(payload)
    sources.send(sample.make(2, START + timedelta(seconds=1)))
    sources.await_acknowledged()
    sources.good[sample.source(run)].remove(payload)
    assert_all_there(deployment, database, sources, letters, run)
    sources.close()


@every_domain
def test_killing_the_worker_and_the_bridge_loses_and_doubles_nothing(
    deployment: Stack, database: Database, letters: dict[str, DeadLetters], sample: Sample
) -> None:
    """SIGKILL of each in the middle of the load."""
    run = uuid4().hex[:8]
    sources = Sources(deployment, sample, run)
    kills = {600: "worker", 1400: "bridge"}
    for number in range(2000):
        payload = sample.make(number, START + timedelta(seconds=number))
        (sources.send if number % BAD_EVERY else sources.send_bad)(payload, number)
        if name := kills.get(number):
            fleet.kill(deployment.pid(name))
        if number % 100 == 0:
            time.sleep(0.05)
    sources.await_acknowledged()
    assert_all_there(deployment, database, sources, letters, run)
    sources.close()


@every_domain
def test_a_violation_is_told_once_and_its_end_once(
    deployment: Stack, database: Database, sample: Sample
) -> None:
    """A rule of the user's or a check of the domain's: one TRIGGERED, one RESOLVED, about this source."""
    run = uuid4().hex[:8]
    user, source = sample.owner(run), sample.source(run)
    if sample.rules:
        with announced(deployment):
            database.execute(
                "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)",
                [user, json.dumps(sample.rules)],
            )
    named = source if sample is TELEMETRY else f"{sample.domain.name}/{source}"
    with subscriber(deployment, user) as listening:
        sources = Sources(deployment, sample, run, count=1)
        for number in range(300):
            sources.send(sample.violating(number, START + timedelta(seconds=number)))
        sources.send(sample.make(300, START + timedelta(seconds=300)))
        sources.await_acknowledged()
        assert listening.told(2) == [(named, "TRIGGERED"), (named, "RESOLVED")]
        triggered, resolved = listening.notices
    assert triggered["alert_id"] == resolved["alert_id"]
    assert (triggered["rule_id"], triggered["user_id"]) == (sample.rule_id, user)
    assert triggered["message"] == sample.message.format(source=source)
    assert triggered["value"] == sample.value
    assert resolved["count"] == 300
    history = "SELECT status FROM alert_history WHERE device_id = %s ORDER BY number"
    fleet.wait_until(lambda: len(database.execute(history, [named]).fetchall()) >= 2, 20, "the history")
    assert database.execute(history, [named]).fetchall() == [("TRIGGERED",), ("RESOLVED",)]
    sources.close()


def test_all_domains_at_once_keep_to_themselves(
    deployment: Stack, database: Database, letters: dict[str, DeadLetters]
) -> None:
    """Sources of the same name in every domain, sending at the same time: each domain has its own."""
    run = uuid4().hex[:8]
    first = Sources(deployment, SAMPLES[0], run)
    everything = [*(Sources(deployment, sample, run, beside=first) for sample in SAMPLES[1:]), first]
    for number in range(900):
        for sources in everything:
            payload = sources.sample.make(number, START + timedelta(seconds=number))
            (sources.send if number % BAD_EVERY else sources.send_bad)(payload, number)
    for sources in everything:
        sources.await_acknowledged()
    for sources in everything:
        assert_all_there(deployment, database, sources, letters, run)
        sources.close()


def test_a_check_is_snoozed_and_disabled_like_a_rule(deployment: Stack, database: Database) -> None:
    """SNOOZE and DISABLE take the name of the check, and the source as the alert names it."""
    run = uuid4().hex[:8]
    source = LOGISTICS.source(run)
    named = f"packages/{source}"
    sources = Sources(deployment, LOGISTICS, run, count=1)
    with subscriber(deployment, run) as listening:
        sources.send(LOGISTICS.violating(0, START))
        assert listening.told(1) == [(named, "TRIGGERED")]
        command = {"device_id": named, "rule_id": "DeliveryDelay"}
        listening.publish("alerts/manage", command | {"action": "SNOOZE", "duration_minutes": 60})
        assert listening.told(2)[1] == (named, "SNOOZED")
        sources.send(LOGISTICS.violating(1, START + timedelta(seconds=1)))
        sources.send(LOGISTICS.make(2, START + timedelta(seconds=2)))
        assert listening.told(3)[2] == (named, "RESOLVED")
        listening.publish("alerts/manage", command | {"action": "DISABLE"})
        assert listening.told(4)[3] == (named, "DISABLED")
        sources.send(LOGISTICS.violating(3, START + timedelta(seconds=3)))
        fleet.wait_until(lambda: len(rows(database, LOGISTICS, source)) == 4, 30, "the rows")
        listening.publish("alerts/manage", command | {"action": "ENABLE"})
        assert listening.told(5)[4] == (named, "ENABLED")
        sources.send(LOGISTICS.violating(4, START + timedelta(seconds=4)))
        assert listening.told(6)[5] == (named, "TRIGGERED")
    sources.close()


def test_a_rule_of_a_user_is_about_the_domain_that_it_names(deployment: Stack, database: Database) -> None:
    """Without a name it is about the first domain, so that nobody's rules mean more when one is added."""
    run = uuid4().hex[:8]
    truck = {"key": "truck.number", "operator": ">=", "threshold": 7, "message": "far"}
    rules = [truck | {"id": "own", "domain": "packages"}, truck | {"id": "first"}]
    with announced(deployment):
        database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)", [run, json.dumps(rules)]
        )
    readings = Sources(deployment, TELEMETRY, run, count=1)
    packages = Sources(deployment, LOGISTICS, run, count=1, beside=readings)
    with subscriber(deployment, run) as listening:
        packages.send(LOGISTICS.make(7, START))
        listening.told(1)
        readings.send(TELEMETRY.make(7, START) | {"truck": {"number": 7}})
        listening.told(2)
    assert [(notice["device_id"], notice["rule_id"]) for notice in listening.notices] == [
        (f"packages/{LOGISTICS.source(run)}", "own"),
        (TELEMETRY.source(run), "first"),
    ]
    packages.close()
    readings.close()


def test_a_domain_in_trouble_holds_up_no_other(
    deployment: Stack, database: Database, letters: dict[str, DeadLetters]
) -> None:
    """A table that lacks a column: its messages wait, and none goes to the dead letters; others go on."""
    run = uuid4().hex[:8]
    ticks, packages = (Sources(deployment, sample, run, count=1) for sample in (FINANCE, LOGISTICS))
    database.execute("ALTER TABLE raw_ticks RENAME COLUMN volume TO amount")
    try:
        for number in range(50):
            ticks.send(FINANCE.make(number, START + timedelta(seconds=number)))
            packages.send(LOGISTICS.make(number, START + timedelta(seconds=number)))
        ticks.await_acknowledged()
        packages.await_acknowledged()
        assert_all_there(deployment, database, packages, letters, run)
        assert found_dead(letters["ticks"], run) == {}
    finally:
        database.execute("ALTER TABLE raw_ticks RENAME COLUMN amount TO volume")
    assert_all_there(deployment, database, ticks, letters, run)
    ticks.close()
    packages.close()


def test_the_page_about_domains_does_what_it_says(deployment: Stack, database: Database) -> None:
    """The steps of docs/domains.md give the parcel's rows, and two notices for three delays."""
    said = run_page(deployment, "docs/domains.md")
    statuses = [(status,) for status in ("IN_TRANSIT", "DELAYED", "DELAYED", "DELAYED", "DELIVERED")]
    query = "SELECT status FROM raw_packages WHERE user_id = 'ada' ORDER BY time"
    fleet.wait_until(lambda: database.execute(query).fetchall() == statuses, 30, "the rows")
    notices = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [(one["status"], one["device_id"], one["rule_id"]) for one in notices] == [
        ("TRIGGERED", "packages/p1", "DeliveryDelay"),
        ("RESOLVED", "packages/p1", "DeliveryDelay"),
    ]


@pytest.mark.parametrize("sample", [LOGISTICS, FINANCE], ids=["packages", "ticks"])
def test_nothing_is_missing_of_another_domain(deployment: Stack, sample: Sample) -> None:
    """`sluice verify` accounts for every record of the domain's topic, and `sluice dlq` for its letters."""
    wait_for_no_lag(deployment, sample.domain.qualified("iot-stream"))
    verified = sluice(deployment, "verify", "--domain", sample.domain.name, "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    balance = json.loads(verified.stdout)
    assert balance["missing"] == 0
    assert balance["rows"] > 0
    listed = sluice(deployment, "dlq", "list", "--domain", sample.domain.name, "--summary", "--json")
    assert json.loads(listed.stdout)["total"] == balance["dead_lettered"]


def test_the_status_has_the_figures_of_each_domain(deployment: Stack) -> None:
    """How much waits of each domain, and for how long: here for a group that has committed nothing."""
    run = uuid4().hex[:8]
    for sample in SAMPLES:
        sources = Sources(deployment, sample, run, 1)
        sources.send(sample.make(0, START))
        sources.await_acknowledged()
        sources.close()
    done = commands.sluice(deployment, "status", "--json", KAFKA_GROUP=f"nobody-{run}")
    told = json.loads(done.stdout)
    assert list(told["domains"]) == [sample.domain.name for sample in SAMPLES], done.stderr
    for figures in told["domains"].values():
        assert 0 < figures["lag"] <= figures["records"]
        assert 0 <= figures["oldest_seconds"] < 3600
    assert sum(one["lag"] for one in told["domains"].values()) == told["kafka"]["lag"]
