"""Silence: when a device, or one of its values, counts as absent, and when it is back."""

import pytest

from tests.unit.tasks.rules.device import START, Device, rule

SILENT = {"id": "t", "operator": "absent", "for_seconds": 60, "message": "silent"}
NO_BATTERY = {"key": "battery", "id": "t", "operator": "absent", "for_seconds": 60, "message": "no battery"}


def test_a_silent_device_is_told_once() -> None:
    """Once it has been silent for long enough, by the clock."""
    device = Device(SILENT)
    assert device.tick(59.9, seen=0) == []
    assert device.tick(60, seen=0) == ["TRIGGERED"]
    assert device.tick(70, seen=0) == []
    change = device.last
    assert (change.key, change.threshold, change.value, change.sequence_id) == (None, None, None, None)
    assert change.to_record()["first_seen"] == "2026-05-01T10:00:00Z"
    assert change.to_record()["time"] == "2026-05-01T10:01:00Z"


def test_a_device_that_returns_is_resolved() -> None:
    """By its first reading, whatever that holds, and however late its time is."""
    device = Device(SILENT)
    device.tick(60, seen=0)
    assert device.send({}, at=61, time=-5000) == ["RESOLVED"]
    assert device.last.reason == "returned"
    assert device.last.alert_id == device.changes[0].alert_id


def test_a_refused_absence_that_is_snoozed_is_over_when_the_device_returns() -> None:
    """After the snooze, the device would count as absent since before it returned."""
    device = Device(SILENT)
    device.send({}, at=0)
    device.most = 0
    assert device.tick(60, seen=0) == ["REFUSED"]
    device.command("SNOOZE", 61, minutes=1)
    device.send({}, at=110)
    device.most = None
    assert device.tick(125, seen=110) == []
    assert device.tick(170, seen=110) == ["TRIGGERED"]
    assert device.entry.first_seen == (START + 110) * 1_000_000


def test_a_reading_from_before_the_silence_is_no_return() -> None:
    """A reading that is judged again after an absence was announced does not end it."""
    device = Device(SILENT)
    device.send({}, 0)
    device.tick(60, seen=0)
    assert device.judge(*device.sent) == []


def test_a_value_can_be_absent_while_its_device_is_not() -> None:
    """The rule's key counts, null being nothing; the value that returns is told."""
    device = Device(NO_BATTERY)
    assert device.tick(60, seen=59, battery=0) == ["TRIGGERED"]
    assert device.send({"t": 1}, 61) == []
    assert device.send({"battery": None}, 62) == []
    assert device.send({"battery": 80}, 63) == ["RESOLVED"]
    assert device.last.value == 80


def test_a_value_that_never_came_is_not_missed() -> None:
    """Not every device of a user has every sensor."""
    assert Device(NO_BATTERY).tick(1e6, seen=0) == []


@pytest.mark.parametrize(("listening", "told"), [(None, []), (100, []), (40, ["TRIGGERED"])])
def test_silence_during_our_own_outage_is_nobodys_absence(listening: float | None, told: list[str]) -> None:
    """It counts from when everything could arrive again, and not at all until then."""
    assert Device(SILENT).tick(100, seen=0, listening=listening) == told


def test_an_outage_ends_no_absence() -> None:
    """A device that was absent before is absent still, and is not reported again."""
    device = Device(SILENT)
    device.tick(60, seen=0)
    assert device.tick(500, seen=0, listening=480) == []
    assert device.tick(1000, seen=0, listening=480) == []


def test_the_clock_notices_a_return_that_no_reading_told() -> None:
    """A newer last-seen time ends an absence."""
    device = Device(SILENT)
    device.tick(60, seen=0)
    assert device.tick(70, seen=65) == ["RESOLVED"]


def test_a_longer_wait_ends_an_absence() -> None:
    """A changed rule is judged at the next look at the clock."""
    device = Device(SILENT)
    device.tick(60, seen=0)
    device.change_rules(SILENT | {"for_seconds": 3600})
    assert device.tick(70, seen=0) == ["RESOLVED"]
    device.change_rules(SILENT)
    assert device.tick(80, seen=0) == ["TRIGGERED"]
    assert device.changes[0].alert_id != device.last.alert_id


def test_an_absence_can_be_snoozed() -> None:
    """It triggers again after the snooze if the device is silent still."""
    device = Device(SILENT)
    device.tick(60, seen=0)
    device.command("SNOOZE", 61, minutes=1)
    assert device.tick(120, seen=0) == []
    assert device.tick(121, seen=0) == ["TRIGGERED"]


def test_a_device_that_returns_and_leaves_during_a_snooze_is_told_after_it() -> None:
    """Its return at once, its next absence when the snooze is over."""
    device = Device(SILENT)
    device.tick(60, seen=0)
    device.command("SNOOZE", 61, minutes=5)
    assert device.send({}, 62) == ["RESOLVED"]
    assert device.tick(200, seen=62) == []
    assert device.tick(361, seen=62) == ["TRIGGERED"]


def test_an_absence_can_be_disabled() -> None:
    """The silence goes on untold; after ENABLE it is a new alert."""
    device = Device(SILENT)
    device.tick(60, seen=0)
    device.command("DISABLE", 61)
    assert device.tick(100, seen=0) == []
    device.command("ENABLE", 101)
    assert device.tick(110, seen=0) == ["TRIGGERED"]
    assert device.last.alert_id != device.changes[0].alert_id


def test_a_rule_that_stops_being_an_absence_ends_it() -> None:
    """Absent is an operator like the others: another one is another rule."""
    device = Device(SILENT)
    device.tick(60, seen=0)
    device.change_rules(rule(id="t"))
    assert device.tick(70, seen=0) == []
    assert device.send(31, 71) == ["RESOLVED", "TRIGGERED"]
    assert device.changes[1].reason == "rule_changed"
