"""A violation that lasts while no reading comes."""

from tests.unit.tasks.rules.device import Device, rule


def test_one_reading_and_then_silence_triggers_by_the_clock() -> None:
    """A device that reports only changes sends nothing while nothing changes."""
    device = Device(rule(for_seconds=5))
    assert device.send(31, 0) == []
    assert device.tick(4.9) == []
    assert device.tick(5) == ["TRIGGERED"]
    change = device.last
    assert (change.value, change.count, change.sequence_id, change.position) == (31, 1, None, None)
    assert device.tick(6) == []
    assert device.send(29, 60) == ["RESOLVED"]
    assert device.last.alert_id == change.alert_id


def test_readings_and_silence_count_together() -> None:
    """The violation began with the first reading, not with the last."""
    device = Device(rule(for_seconds=60))
    device.send(31, 0)
    device.send(32, 50)
    assert device.tick(59) == []
    assert device.tick(60) == ["TRIGGERED"]
    assert device.last.count == 2


def test_a_reading_in_order_ends_the_wait() -> None:
    """There is nothing that lasts."""
    device = Device(rule(for_seconds=5))
    device.send(31, 0)
    device.send(29, 3)
    assert device.tick(100) == []


def test_readings_of_long_ago_do_not_last_since_then() -> None:
    """A backlog is judged by its own times: what follows in it may end the violation."""
    device = Device(rule(for_seconds=60))
    device.send(31, 0, time=-3000)
    assert device.tick(59) == []
    assert device.tick(60) == ["TRIGGERED"]


def test_an_outage_of_sluice_does_not_count() -> None:
    """A reading that would have ended the violation may still wait in the broker."""
    device = Device(rule(for_seconds=60))
    device.send(31, 0)
    assert device.tick(1000, listening=None) == []
    assert device.tick(1000, listening=950) == []
    assert device.tick(1010, listening=950) == ["TRIGGERED"]


def test_a_rule_without_for_seconds_waits_for_readings_alone() -> None:
    """So does one with another threshold than that by which the reading was judged."""
    device = Device(rule(for_readings=2))
    device.send(31, 0)
    assert device.tick(1000) == []
    device = Device(rule(for_seconds=60))
    device.send(31, 0)
    device.change_rules(rule(threshold=40, for_seconds=60), at=10)
    assert device.tick(1000) == []


def test_a_snoozed_or_disabled_rule_does_not_trigger_by_the_clock() -> None:
    """After the snooze it does."""
    device = Device(rule(for_seconds=60))
    device.send(31, 0)
    device.send(31, 60)
    device.command("SNOOZE", 61, minutes=10)
    device.send(29, 62)
    device.send(31, 70)
    assert device.tick(600) == []
    assert device.tick(662) == ["TRIGGERED"]
    device = Device(rule(for_seconds=60))
    device.send(31, 0)
    device.command("DISABLE", 1)
    assert device.tick(1000) == []


def test_it_needs_room_for_an_alert() -> None:
    """Without room it is refused, once, and a later reading triggers it."""
    device = Device(rule(for_seconds=5))
    device.most = 0
    device.send(31, 0)
    assert device.tick(5) == ["REFUSED"]
    assert device.tick(6) == []
    device.most = 1
    assert device.send(31, 7) == ["TRIGGERED"]
