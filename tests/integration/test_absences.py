"""Silence and its end, on real servers: who is missed, when, and how often it is told."""

import pytest

from ingest.admin.accounts import provision
from tasks import clock
from tasks.alerts import never_seen as never_seen_module
from tasks.servers.redis_client import CLOCK, LAST_SEEN, LAST_SEEN_READY, client
from tests.integration.clock_user import (
    HOT,
    NO_BATTERY,
    SILENT,
    Ear,
    User,
    ear,
    fresh_clock,
    never_seen,
    user,
)
from tests.integration.fleet import wait_until

__all__ = ["ear", "fresh_clock", "never_seen", "user"]

pytestmark = pytest.mark.usefixtures("in_process", "fresh_clock")


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


@pytest.mark.usefixtures("ear")
def test_rules_that_come_late_miss_at_once(user: User) -> None:
    """A device that is silent already is reported at the next look after its user's rule."""
    user.rule(HOT)
    user.send("d", -100)
    clock.tick()
    user.rule(SILENT)
    clock.tick()
    assert user.told() == [("d", "TRIGGERED")]


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
    """Nobody is notified of a day before anybody asked; disabled accounts are not reported absent."""
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
