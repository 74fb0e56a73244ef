"""What no reading tells, on real servers: silence, its end, the end of a snooze, and no storm of ours."""

import json
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException

from compose.local.stack import Stack
from ingest.admin import provision
from tasks import clock
from tasks.alerts import absences, by_clock, reading_back, silence, state_store
from tasks.alerts import never_seen as never_seen_module
from tasks.alerts.evaluate import evaluate
from tasks.alerts.rule_cache import rule_sets
from tasks.alerts.silence import Heard
from tasks.batch import marks
from tasks.batch.messages import Message
from tasks.domain.domain import AnyDomain
from tasks.domain.payload import Limits
from tasks.outbox import deliver
from tasks.rows.validate import Received
from tasks.rules.change import Change
from tasks.rules.commands import Origin, manage, parse_command
from tasks.servers import backoff
from tasks.servers.redis_client import (
    CLOCK,
    GATEWAYS,
    HORIZON,
    LAST_SEEN,
    LAST_SEEN_READY,
    RULES_VERSION,
    client,
    server_run,
)
from tasks.settings import settings
from tasks.telemetry import DOMAIN
from tests.integration.changes import write_tables
from tests.integration.fleet import wait_until

pytestmark = pytest.mark.usefixtures("in_process", "fresh_clock")

SILENT = {"operator": "absent", "for_seconds": 60, "message": "silent"}
NO_BATTERY = {"key": "battery", "operator": "absent", "for_seconds": 60, "message": "no battery"}
HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}

Database = psycopg.Connection[tuple[Any, ...]]


class Ear:
    """What the clock believes to have heard; all of the last day unless told otherwise."""

    def __init__(self) -> None:
        self.since_s: float | None = -86_400
        self.until_s: float = 0

    def heard(self, now_ms: int, _domain: AnyDomain) -> Heard | None:
        """In the place of `listening.heard`; times are seconds from now."""
        if self.since_s is None:
            return None
        return Heard(now_ms + round(self.since_s * 1000), now_ms + round(self.until_s * 1000))


class User:
    """A user with rules, and what was told of the devices."""

    def __init__(self, database: Database) -> None:
        self.id = uuid4().hex[:8]
        self.database = database
        self.offset = 0

    def rule(self, *rules: dict[str, Any]) -> None:
        """Other rules, known at once."""
        self.database.execute(
            "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)"
            " ON CONFLICT (user_id) DO UPDATE SET rules = excluded.rules",
            [self.id, json.dumps(rules)],
        )
        client().incr(RULES_VERSION)

    def send(self, device: str, at_s: float, **values: Any) -> list[Change]:
        """A reading that came so many seconds from now; all that is told of it."""
        self.offset += 1
        at_ms = round((time.time() + at_s) * 1000)
        topic = f"users/{self.id}/devices/{device}/telemetry"
        payload = json.dumps({"sequence_id": self.offset, **values}).encode()
        message = Message(0, self.offset, at_ms, topic, "", 0, payload)
        return evaluate(DOMAIN, [Received(message, DOMAIN.validate(topic, payload, at_ms, Limits()))]).changes

    def command(self, device: str, action: str, at_s: float, minutes: float | None = None) -> None:
        """A command about the rule `temperature` or `absent`, sent so many seconds from now."""
        rules = rule_sets([self.id])[self.id]
        document = {"device_id": device, "rule_id": rules.rules[0].rule_id, "action": action}
        command = parse_command(document | {"duration_minutes": minutes})
        origin = Origin(uuid4().hex, round((time.time() + at_s) * 1000), "anna")
        state_store.transact([(self.id, device)], lambda state: manage(state, rules, command, origin))

    def told(self) -> list[tuple[str, str]]:
        """Device and status of all that was told, as the history has it."""
        write_tables()
        query = 'SELECT device_id, status FROM alert_history WHERE user_id = %s ORDER BY device_id, "number"'
        return [(str(device), str(status)) for device, status in self.database.execute(query, [self.id])]


@pytest.fixture
def fresh_clock(in_process: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: ARG001 - first
    """A clock that has judged nothing yet, and sends no tasks."""
    monkeypatch.setattr(deliver, "wake", lambda: None)
    absences._users.clear()
    forget()
    client().ping()
    client().set(LAST_SEEN_READY, server_run())
    yield
    silence.close()
    forget()


def forget() -> None:
    """Leaves nothing that the clock remembers."""
    client().delete(CLOCK, HORIZON, GATEWAYS, LAST_SEEN, LAST_SEEN_READY)
    for pattern in ("sluice:turn:*", "sluice:rest:*", "sluice:failures:*"):
        for key in client().scan_iter(match=pattern):
            client().delete(key)


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    """The clock hears what the test says."""
    own = Ear()
    monkeypatch.setattr(silence, "heard", own.heard)
    return own


@pytest.fixture
def user(database: Database) -> Iterator[User]:
    """A user, whose rules go with the test."""
    one = User(database)
    yield one
    one.database.execute("DELETE FROM user_configs WHERE user_id = %s", [one.id])
    one.database.close()


@pytest.mark.usefixtures("ear")
def test_a_silent_device_is_told_once_and_its_return_once(user: User) -> None:
    """However often the clock looks, and whoever else is silent or not."""
    user.rule(SILENT)
    user.send("gone", -61)
    user.send("here", -5)
    for _ in range(3):
        clock.tick()
    assert user.told() == [("gone", "TRIGGERED")]
    assert [change.reason for change in user.send("gone", 0)] == ["returned"]
    for _ in range(3):
        clock.tick()
    assert user.told() == [("gone", "TRIGGERED"), ("gone", "RESOLVED")]


def test_a_device_is_missed_when_its_time_has_come(user: User, ear: Ear) -> None:
    """The looks between two full ones see what the time in between has changed."""
    user.rule(SILENT)
    user.send("d", -53)
    ear.until_s = -1
    clock.tick()
    full_ms = client().hget(CLOCK, "full_ms")
    assert user.told() == []
    # A full look comes every ten seconds; the absence is due before.
    wait_until(lambda: clock.tick() or user.told() == [("d", "TRIGGERED")], 30, "the absence")
    assert client().hget(CLOCK, "full_ms") == full_ms


def test_a_device_is_missed_when_its_own_time_has_come(user: User, ear: Ear) -> None:
    """A rule may wait for some devices for a shorter or longer time than for the others."""
    user.rule(SILENT | {"overrides": {"hasty": {"for_seconds": 10}, "slow": {"for_seconds": 600}}})
    for device in ("hasty", "other", "slow"):
        user.send(device, -3)
    user.send("late", -70)
    ear.until_s = -1
    clock.tick()
    full_ms = client().hget(CLOCK, "full_ms")
    assert user.told() == [("late", "TRIGGERED")]
    wait_until(lambda: clock.tick() or len(user.told()) > 1, 30, "the absence")
    assert user.told() == [("hasty", "TRIGGERED"), ("late", "TRIGGERED")]
    assert client().hget(CLOCK, "full_ms") == full_ms
    user.send("restless", -15)
    user.rule(SILENT | {"overrides": {"restless": {"for_seconds": 10}, "hasty": {"for_seconds": 10}}})
    clock.tick()
    assert user.told()[-1] == ("restless", "TRIGGERED")


@pytest.mark.usefixtures("ear")
def test_a_value_is_missed_while_its_device_reports(user: User) -> None:
    """By its own last time; a device that never had it is not asked for it."""
    user.rule(NO_BATTERY)
    user.send("d", -70, battery=90)
    user.send("d", -1)
    user.send("bare", -70)
    clock.tick()
    assert user.told() == [("d", "TRIGGERED")]
    user.send("d", 0, battery=80)
    assert user.told() == [("d", "TRIGGERED"), ("d", "RESOLVED")]


def test_after_an_outage_of_ours_there_is_no_storm(user: User, ear: Ear) -> None:
    """Nobody is missed for what could not arrive, or was not judged yet; who stays silent is, later."""
    user.rule(SILENT)
    for number in range(50):
        user.send(f"d{number}", -300)
    ear.since_s = None
    clock.tick()
    ear.since_s = -30
    clock.tick()
    ear.since_s, ear.until_s = -86_400, -290
    clock.tick()
    assert user.told() == []
    ear.since_s, ear.until_s = -86_400, 0
    for number in range(1, 50):
        user.send(f"d{number}", -5)
    clock.tick()
    assert user.told() == [("d0", "TRIGGERED")]


def test_one_violating_reading_and_then_silence_triggers(user: User, ear: Ear) -> None:
    """A device that reports only changes sends nothing more; an outage of Sluice does not count."""
    user.rule(HOT | {"for_seconds": 5})
    user.send("d", -6, temperature=81)
    user.send("well", -6, temperature=81)
    user.send("well", -5, temperature=20)
    write_tables()
    ear.since_s = -3
    clock.tick()
    assert user.told() == []
    ear.since_s = -86_400
    # After a look that took long, a process rests.
    wait_until(lambda: clock.tick() or user.told() == [("d", "TRIGGERED")], 30, "the alert")
    user.send("d", 0, temperature=20)
    assert user.told() == [("d", "TRIGGERED"), ("d", "RESOLVED")]


@pytest.mark.usefixtures("ear")
def test_violations_that_last_are_found_a_few_at_a_time(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, and whichever began at the same time; each is found in the same look."""
    monkeypatch.setattr(by_clock, "AT_ONCE", 2)
    user.rule(HOT | {"for_seconds": 5}, HOT | {"id": "wet", "key": "wet", "for_seconds": 5})
    begun = round(time.time() * 1000) - 7000
    for device in ("a", "b", "c", "d", "e"):
        user.send(device, begun / 1000 - time.time(), temperature=81, wet=90)
    user.send("young", 0, temperature=81)
    write_tables()
    wait_until(lambda: clock.tick() or user.told() != [], 30, "the alerts")
    assert user.told() == [(device, "TRIGGERED") for device in "abcde" for _ in range(2)]


@pytest.mark.usefixtures("ear")
def test_alerts_that_flap_are_settled_when_they_are_calm(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """As violated or as over; of one that did not flap, what could have made it is forgotten."""
    monkeypatch.setattr(by_clock, "AT_ONCE", 1)
    user.rule(HOT | {"flapping": {"changes": 2, "minutes": 0.1}})
    for device, values in {"low": (81, 20, 82, 20), "high": (81, 20, 83), "once": (81, 20)}.items():
        for number, value in enumerate(values):
            user.send(device, number - 20, temperature=value)
    write_tables()
    rows = "SELECT device_id, status, violated FROM active_alerts WHERE user_id = %s ORDER BY device_id"
    assert user.database.execute(rows, [user.id]).fetchall() == [
        ("high", "FLAPPING", True),
        ("low", "FLAPPING", False),
        ("once", "RESOLVED", None),
    ]
    answer = reading_back.read_back("alerts", user.id, b"")
    assert [(alert["device_id"], alert["status"], alert["violated"]) for alert in answer["alerts"]] == [
        ("high", "FLAPPING", True),
        ("low", "FLAPPING", False),
    ]
    wait_until(lambda: clock.tick() or len(user.told()) == 10, 30, "the calm")
    flapped = ["TRIGGERED", "RESOLVED", "FLAPPING"]
    told = {"high": [*flapped, "TRIGGERED"], "low": [*flapped, "RESOLVED"], "once": flapped[:2]}
    assert user.told() == [(device, status) for device, statuses in told.items() for status in statuses]
    write_tables()
    assert user.database.execute(rows, [user.id]).fetchall() == [("high", "TRIGGERED", None)]


@pytest.mark.usefixtures("ear")
def test_rules_that_come_late_miss_at_once(user: User) -> None:
    """A device that is silent already is told at the next look after its user's rule."""
    user.rule(HOT)
    user.send("d", -100)
    clock.tick()
    user.rule(SILENT)
    clock.tick()
    assert user.told() == [("d", "TRIGGERED")]


@pytest.fixture
def never_seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Devices that have never sent anything can be absent."""
    monkeypatch.setenv("ABSENT_NEVER_SEEN", "true")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.usefixtures("never_seen")
def test_a_device_that_has_never_sent_anything_is_missed_once(
    user: User, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with an account, or named by a rule: after its time, whatever Redis forgets, until it comes."""
    monkeypatch.setattr(never_seen_module, "AT_ONCE", 2)
    names = ["a1", "a2", "b", "other"]
    provision.provision_devices(user.database, [(user.id, name) for name in names])
    named = SILENT | {"id": "named", "devices": ["n", "a*", "b"]}
    user.rule(named, NO_BATTERY | {"devices": ["z"]}, HOT)
    user.send("other", 0)
    ear.until_s = 55
    clock.tick()
    assert user.told() == []
    ear.until_s = 65
    for _ in range(2):
        clock.tick()
    missed = [(name, "TRIGGERED") for name in ("a1", "a2", "b", "n")]
    assert user.told() == missed
    client().delete(LAST_SEEN, LAST_SEEN_READY, CLOCK)
    for _ in range(2):
        clock.tick()
        client().delete(CLOCK)
    assert user.told() == missed
    assert [change.reason for change in user.send("n", 1)] == ["returned"]
    assert user.told() == [*missed, ("n", "RESOLVED")]


@pytest.mark.usefixtures("never_seen")
def test_an_account_that_is_older_than_the_rule_is_missed_after_the_rules_time(user: User, ear: Ear) -> None:
    """Nobody is told of a day that was before anybody asked; disabled accounts are not missed."""
    provision.provision_devices(user.database, [(user.id, "old"), (user.id, "off")])
    user.database.execute(
        "UPDATE mqtt_users SET created_at = now() - interval '1 day', enabled = device_id = 'old'"
        " WHERE user_id = %s",
        [user.id],
    )
    user.rule(SILENT)
    clock.tick()
    assert user.told() == []
    ear.until_s = 65
    clock.tick()
    assert user.told() == [("old", "TRIGGERED")]


def test_without_the_setting_only_who_was_seen_is_missed(user: User, ear: Ear) -> None:
    """An account alone makes no absence."""
    provision.provision_devices(user.database, [(user.id, "d")])
    user.rule(SILENT | {"devices": ["d", "n"]})
    ear.until_s = 65
    clock.tick()
    assert user.told() == []


@pytest.mark.usefixtures("ear")
def test_a_rule_that_waits_longer_now_ends_its_absence(user: User) -> None:
    """The rule in force decides."""
    user.rule(SILENT)
    user.send("d", -100)
    clock.tick()
    assert user.told() == [("d", "TRIGGERED")]
    user.rule(SILENT | {"for_seconds": 3600})
    clock.tick()
    assert user.told() == [("d", "TRIGGERED"), ("d", "RESOLVED")]


@pytest.mark.usefixtures("ear")
def test_lost_times_make_no_false_absence_and_end_none(user: User) -> None:
    """Stored devices count from now on; what was told of a device that is silent still stays so."""
    user.rule(SILENT)
    user.send("gone", -100)
    clock.tick()
    assert user.told() == [("gone", "TRIGGERED")]
    for device, age in [("d1", 500), ("d1", 400), ("d2", 100), ("gone", 100)]:
        user.database.execute(
            "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id)"
            " VALUES (now() - make_interval(secs => %s), %s, %s, 1)",
            [age, user.id, device],
        )
    client().delete(LAST_SEEN, LAST_SEEN_READY, CLOCK)
    clock.tick()
    clock.tick()
    assert user.told() == [("gone", "TRIGGERED")]
    seen: Any = client().zmscore(LAST_SEEN, [f"{user.id}/d1", f"{user.id}/d2"])
    assert min(seen) >= (time.time() - 60) * 1000
    user.send("gone", 0)
    assert user.told() == [("gone", "TRIGGERED"), ("gone", "RESOLVED")]


@pytest.mark.usefixtures("ear")
def test_an_enabled_absence_is_told_at_the_next_full_look(user: User) -> None:
    """Nothing but the command has changed, and the clock finds it by itself."""
    user.rule(SILENT)
    user.send("d", -100)
    clock.tick()
    user.command("d", "DISABLE", -2)
    clock.tick()
    user.command("d", "ENABLE", -1)
    client().hset(CLOCK, "full_ms", 0)
    clock.tick()
    assert user.told() == [("d", status) for status in ("TRIGGERED", "DISABLED", "ENABLED", "TRIGGERED")]


@pytest.mark.usefixtures("ear")
def test_the_end_of_a_snooze_needs_no_reading(user: User) -> None:
    """An alert that is not over is told again, under an id of its own; one that is over is not."""
    user.rule(HOT)
    for device in ("hot", "cold", "later"):
        user.send(device, -100, temperature=90)
        user.command(device, "SNOOZE", -90, minutes=60 if device == "later" else 1)
    user.send("cold", -80, temperature=20)
    before = user.told()
    clock.tick()
    told = user.told()
    assert [one for one in told if one[0] == "hot"] == [
        ("hot", s) for s in ("TRIGGERED", "SNOOZED", "TRIGGERED")
    ]
    assert [one for one in told if one[0] != "hot"] == [one for one in before if one[0] != "hot"]
    clock.tick()
    assert user.told() == told
    query = "SELECT DISTINCT alert_id FROM alert_history WHERE user_id = %s AND device_id = 'hot'"
    assert len(user.database.execute(query, [user.id]).fetchall()) == 2
    left = "SELECT device_id, status FROM active_alerts WHERE user_id = %s ORDER BY device_id"
    rows = user.database.execute(left, [user.id]).fetchall()
    assert rows == [("hot", "TRIGGERED"), ("later", "SNOOZED")]


@pytest.mark.usefixtures("ear")
def test_without_the_database_silence_is_still_told(stack: Stack, user: User) -> None:
    """The rules that the worker knows are enough; snoozes wait."""
    user.rule(SILENT)
    user.send("d", -50)
    clock.tick()
    stack.stop("postgres")
    try:
        client().zadd(LAST_SEEN, {f"{user.id}/d": (time.time() - 100) * 1000})
        client().hset(CLOCK, "full_ms", 0)
        clock.tick()
        assert marks.database_fails()
        assert not backoff.rests("clock:absences")
    finally:
        stack.start("postgres")
    user.database = psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True)
    assert user.told() == [("d", "TRIGGERED")]


def test_a_kafka_that_is_away_makes_the_clock_wait(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not known what came, and nobody is missed; the snoozes are not held up."""

    def away(_now_ms: int, _domain: AnyDomain) -> Heard | None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr(silence, "heard", away)
    user.rule(SILENT)
    user.send("d", -100)
    clock.tick()
    assert backoff.rests("clock:absences")
    assert not backoff.rests("clock:snoozes")
    assert user.told() == []


@pytest.mark.usefixtures("ear")
def test_a_record_stamped_in_the_future_counts_as_heard_now(user: User) -> None:
    """A device whose last record a wrong clock stamped a year ahead is missed like any other."""
    user.rule({**SILENT, "for_seconds": 2})
    user.send("d", 365 * 86_400)
    clock.tick()
    assert user.told() == []
    wait_until(lambda: clock.tick() or user.told() == [("d", "TRIGGERED")], 30, "the absence")


def test_what_is_gone_for_good_is_forgotten_without_any_rule(user: User) -> None:
    """A device that was heard more than a month ago is none whose silence anybody waits for."""
    user.send("old", -32 * 86_400)
    user.send("new", 0)
    clock.tick()
    assert client().zscore(LAST_SEEN, f"{user.id}/old") is None
    assert client().zscore(LAST_SEEN, f"{user.id}/new") is not None
