"""Changes that no reading causes, on real servers: lasting violations, calm alerts, the end of a snooze."""

import time

import pytest

from tasks import clock
from tasks.alerts import by_clock, reading_back
from tests.integration.changes import write_tables
from tests.integration.clock_user import HOT, Ear, User, ear, fresh_clock, user
from tests.integration.fleet import wait_until

__all__ = ["ear", "fresh_clock", "user"]

pytestmark = pytest.mark.usefixtures("in_process", "fresh_clock")


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
def test_the_end_of_a_snooze_needs_no_reading(user: User) -> None:
    """An alert that is not over is published again, under a new id; an alert that is over is not."""
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
