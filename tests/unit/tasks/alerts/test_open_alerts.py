"""Alerts beyond those that a user may have open: refused, said once, and triggered when there is room."""

import pytest

from tasks.alerts.alert_room import Rooms
from tasks.alerts.budget import Budget
from tasks.alerts.stepping import Stepping, check_readings
from tasks.domain.domain import Source
from tasks.rules.change import Change
from tasks.rules.commands import CannotManage
from tasks.rules.state import DeviceState
from tasks.telemetry import DOMAIN
from tests.unit.tasks.alerts.flipping import RULES, flipping
from tests.unit.tasks.rules.device import Device, rule

SILENT = {"id": "t", "operator": "absent", "for_seconds": 60, "message": "silent"}


def full(*rules: dict[str, object]) -> Device:
    """A device of a user who may have no alert more."""
    device = Device(*rules)
    device.most = 0
    return device


def test_an_alert_without_room_is_refused_once() -> None:
    """However often its rule is violated; the rule is pending, with the id of what was refused."""
    device = full(rule())
    assert device.send(40, 0) == ["REFUSED"]
    assert device.last.to_record() | {"status": "TRIGGERED"} == _triggered().to_record()
    assert device.send(41, 1) == device.judge(*device.sent) == []
    assert (device.status, device.entry.alert_id) == ("PENDING", device.last.alert_id)
    assert (device.entry.violations, device.state.open_alerts) == (2, 0)


def _triggered() -> Change:
    device = Device(rule())
    device.send(40, 0)
    return device.last


def test_what_ends_while_it_waits_is_not_told() -> None:
    """Nobody was notified of its begin. The next violation is another alert."""
    device = full(rule())
    device.send(40, 0)
    assert device.send(20, 1) == []
    assert device.state.entries == {}
    assert device.send(40, 2) == ["REFUSED"]
    assert len({change.alert_id for change in device.changes}) == 2


def test_what_is_still_violated_when_there_is_room_is_triggered() -> None:
    """By the next reading, since the beginning of the violation, under an id of its own, and resolved."""
    device = full(rule())
    device.send(40, 0)
    device.most = 1
    assert device.send(41, 5) == ["TRIGGERED"]
    assert device.last.alert_id != device.changes[0].alert_id
    assert (device.last.count, device.last.first_seen) == (2, device.changes[0].first_seen)
    assert device.send(20, 6) == ["RESOLVED"]


def test_an_alert_that_is_resolved_makes_room() -> None:
    """In the same reading for a rule that is judged after it; and what is resolved is never refused."""
    device = Device(rule(id="t"), rule("<", id="cold"), rule("<", 20, id="very cold"))
    device.most = 1
    assert device.send(40, 0) == ["TRIGGERED"]
    device.most = 0
    assert device.send(25, 1) == ["RESOLVED", "REFUSED"]
    device.most = 1
    assert device.send(10, 2) == ["TRIGGERED", "REFUSED"]
    assert device.state.open_alerts == 1


def test_a_snoozed_alert_needs_no_new_room() -> None:
    """It is announced again at the end of its snooze, for it was open all the time."""
    device = Device(rule())
    device.send(40, 0)
    device.command("SNOOZE", 1, minutes=1)
    device.most = 0
    assert device.send(41, 100) == ["TRIGGERED"]


def test_a_refused_alert_can_be_snoozed_and_disabled_but_not_acknowledged() -> None:
    """As one that is pending for other reasons; a snooze opens nothing."""
    device = full(rule())
    device.send(40, 0)
    with pytest.raises(CannotManage, match="no open alert"):
        device.command("ACKNOWLEDGE", 1)
    assert device.command("SNOOZE", 1, minutes=0.01) == ["SNOOZED"]
    assert device.state.open_alerts == 0
    assert device.command("DISABLE", 2) == ["DISABLED"]
    assert device.last.alert_id != device.changes[0].alert_id


def test_an_absence_without_room() -> None:
    """It is refused once, costs no write at later readings, and is published when there is room."""
    device = full(SILENT)
    assert device.tick(60, seen=0) == ["REFUSED"]
    waiting = device.state
    assert device.tick(70, seen=0) == []
    assert device.state is waiting
    device.most = 1
    assert device.tick(80, seen=0) == ["TRIGGERED"]


def test_an_absence_that_ends_while_it_waits() -> None:
    """By a reading, and by the clock; it is not told, and the next one is."""
    for by_reading in (True, False):
        device = full(SILENT)
        device.tick(60, seen=0)
        assert (device.send({}, 65) if by_reading else device.tick(70, seen=65)) == []
        assert device.state.entries == {}
        device.most = 1
        assert device.tick(200, seen=65) == ["TRIGGERED"]


def test_the_devices_of_a_user_share_the_room() -> None:
    """In the order in which they are judged; other users have rooms of their own."""
    rooms = Rooms()
    rooms._left = {"u": 2}
    sources = [Source("u", name) for name in "abc"]
    checked = {source: check_readings(DOMAIN, RULES, flipping(source.device_id, 3)) for source in sources}
    stepping = Stepping(DOMAIN, checked, {}, {}, Budget(1 << 40), rooms=rooms)
    said = []
    for source in sources:
        before = DeviceState(*source)
        after, changes = stepping.step(before)
        assert rooms.take(before, after) == after.open_alerts
        said.append([change.status for change in changes])
    assert said == [["TRIGGERED", "RESOLVED", "TRIGGERED"]] * 2 + [["REFUSED", "REFUSED"]]
    assert (rooms.left("u"), rooms.left("v")) == (0, None)
