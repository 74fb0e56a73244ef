"""SNOOZE, DISABLE, ENABLE: what a user may ask for, and what follows."""

import json
from typing import Any

import pytest

from tasks.rules.commands import CannotManage, InvalidCommand, parse_command
from tasks.rules.state import Acknowledged
from tests.unit.tasks.rules.device import Device, rule

COMMAND = {"device_id": "d", "rule_id": "t", "action": "SNOOZE", "duration_minutes": 5}


def hot(*rules: dict[str, Any]) -> Device:
    """A device with an open alert since second 0."""
    device = Device(*(rules or (rule(),)))
    device.send(31, 0)
    return device


def test_during_a_snooze_nothing_is_told_of_the_violation() -> None:
    """A snoozed alert is counted in silence."""
    device = hot()
    assert device.command("SNOOZE", 1, minutes=1) == ["SNOOZED"]
    assert (device.last.reason, device.last.by) == ("until 2026-05-01T10:01:01Z", "anna")
    assert [device.send(31, second) for second in range(2, 60)] == [[]] * 58
    assert (device.status, device.entry.violations) == ("SNOOZED", 59)


def test_an_alert_that_outlives_its_snooze_triggers_again() -> None:
    """Under a new id, so that it is not a redelivery of the first, and it is resolved under that."""
    device = hot()
    device.command("SNOOZE", 1, minutes=1)
    assert device.send(31, 61) == ["TRIGGERED"]
    assert (device.last.reason, device.last.count) == ("snooze_ended", 2)
    assert device.last.first_seen == device.changes[0].first_seen
    assert device.send(31, 62) == []
    assert device.send(20, 63) == ["RESOLVED"]
    assert device.changes[3].alert_id == device.changes[2].alert_id != device.changes[0].alert_id


def test_the_clock_ends_a_snooze_too_under_the_same_id() -> None:
    """A device that went silent stays no secret, and whoever notices first gives the same alert."""
    by_clock, by_reading = hot(), hot()
    for device in (by_clock, by_reading):
        device.command("SNOOZE", 1, minutes=1)
    assert by_clock.tick(60) == []
    assert by_clock.tick(61) == ["TRIGGERED"]
    assert by_clock.tick(62) == []
    assert by_reading.send(31, 61) == ["TRIGGERED"]
    assert by_clock.last.alert_id == by_reading.last.alert_id


def test_an_alert_that_ends_during_its_snooze_is_resolved_at_once_and_once() -> None:
    """Nobody is left with an open alert, and nobody hears of what comes and goes before the snooze ends."""
    device = hot()
    device.command("SNOOZE", 1, minutes=1)
    assert device.send(20, 10) == ["RESOLVED"]
    assert [device.send(value, 20 + value) for value in (31, 29, 32)] == [[]] * 3
    assert device.send(20, 59) == []
    assert device.send(20, 61) == []
    assert device.status == "OK"


def test_a_violation_that_began_during_a_snooze_is_told_after_it() -> None:
    """As an alert of its own, since when it began."""
    device = hot()
    device.command("SNOOZE", 1, minutes=1)
    device.send(20, 10)
    device.send(31, 20)
    assert device.send(31, 61) == ["TRIGGERED"]
    assert device.last.reason is None
    assert device.last.first_seen == device.sent[2].time


def test_a_snooze_can_be_lengthened_and_shortened() -> None:
    """The latest SNOOZE counts."""
    device = hot()
    device.command("SNOOZE", 1, minutes=1)
    assert device.command("SNOOZE", 2, minutes=10) == ["SNOOZED"]
    assert device.send(31, 500) == []
    device.command("SNOOZE", 501, minutes=0.1)
    assert device.send(31, 507) == ["TRIGGERED"]


def test_enable_ends_a_snooze() -> None:
    """An alert still open triggers again at the next reading; one that ended leaves nothing."""
    device = hot()
    device.command("SNOOZE", 1, minutes=10)
    assert device.command("ENABLE", 2) == ["ENABLED"]
    assert device.send(31, 3) == ["TRIGGERED"]
    device.command("SNOOZE", 4, minutes=10)
    device.command("ENABLE", 5)
    assert device.send(20, 6) == ["RESOLVED"]
    assert device.status == "OK"


def test_the_clock_ends_the_snooze_of_an_alert_that_is_over() -> None:
    """Then the rule is in order, or waits for the next reading if it is violated again."""
    calm, violated = hot(), hot()
    for device in (calm, violated):
        device.command("SNOOZE", 1, minutes=1)
        device.send(20, 2)
    violated.send(31, 3)
    assert calm.tick(61) == violated.tick(61) == []
    assert (calm.status, violated.status) == ("OK", "PENDING")
    assert violated.send(31, 62) == ["TRIGGERED"]


def test_what_waited_during_a_snooze_has_waited_after_enable() -> None:
    """The time that a rule wants counts from the first violation, silent or not."""
    device = hot(rule(for_seconds=60))
    device.send(31, 60)
    device.command("SNOOZE", 61, minutes=10)
    device.send(20, 62)
    device.send(31, 70)
    device.command("ENABLE", 80)
    assert device.status == "PENDING"
    assert device.send(31, 130) == ["TRIGGERED"]


def test_enable_after_a_snoozed_alert_ended_lets_the_next_one_trigger() -> None:
    """Also one that began in silence."""
    device = hot()
    device.command("SNOOZE", 1, minutes=10)
    device.send(20, 2)
    device.send(31, 3)
    assert device.command("ENABLE", 4) == ["ENABLED"]
    assert device.send(31, 5) == ["TRIGGERED"]


def test_a_disabled_rule_is_silent_until_it_is_enabled() -> None:
    """DISABLED is the last word on the alert; after ENABLED the next violation is a new one."""
    device = hot()
    assert device.command("DISABLE", 1) == ["DISABLED"]
    assert device.last.alert_id == device.changes[0].alert_id
    assert [device.send(value, second) for second, value in enumerate([31, 20, 31], 2)] == [[]] * 3
    assert device.command("ENABLE", 5) == ["ENABLED"]
    assert device.last.alert_id == device.changes[0].alert_id
    assert device.send(31, 6) == ["TRIGGERED"]
    assert device.last.alert_id != device.changes[0].alert_id


def test_a_rule_without_an_alert_can_be_disabled() -> None:
    """Its two changes share an id that belongs to no alert."""
    device = Device(rule())
    assert device.command("DISABLE", 0) == ["DISABLED"]
    assert device.send(31, 1) == []
    assert device.command("ENABLE", 2) == ["ENABLED"]
    assert device.changes[0].alert_id == device.changes[1].alert_id
    assert device.changes[0].count == 0


def test_a_rule_that_waits_can_be_disabled() -> None:
    """After ENABLE the waiting starts again."""
    device = hot(rule(for_seconds=10))
    device.command("DISABLE", 1)
    device.command("ENABLE", 2)
    assert device.send(31, 12) == []
    assert device.send(31, 22) == ["TRIGGERED"]


def test_what_a_disabled_rule_did_not_judge_stays_unjudged() -> None:
    """Readings from before ENABLE that come again after it change nothing."""
    device = Device(rule())
    device.command("DISABLE", 0)
    device.send(31, 1)
    device.send(31, 2)
    device.command("ENABLE", 3)
    assert device.judge(*device.sent) == []


def test_a_command_that_comes_again_changes_nothing() -> None:
    """By its id, and by its time once later commands were obeyed, even when the alert is over."""
    device = hot()
    device.command("SNOOZE", 1, minutes=1, command_id="a")
    state = device.state
    assert device.command("SNOOZE", 1, minutes=1, command_id="a") == []
    assert device.state == state
    device.command("ENABLE", 2, command_id="b")
    assert device.command("SNOOZE", 1, minutes=1, command_id="a") == []
    device.send(20, 3)
    assert device.command("SNOOZE", 1, minutes=1, command_id="a") == []


@pytest.mark.parametrize("action", ["DISABLE", "ENABLE"])
def test_a_state_that_is_reached_already_is_no_error(action: str) -> None:
    """A user who asks twice gets what was asked for, and nobody is notified twice."""
    device = Device(rule())
    device.command(action, 0)
    assert device.command(action, 1) == []


def test_a_rule_can_be_snoozed_before_it_has_an_alert() -> None:
    """Nothing triggers meanwhile; what is violated afterwards does."""
    device = Device(rule())
    assert device.command("SNOOZE", 1, minutes=2) == ["SNOOZED"]
    assert [device.send(31, at) for at in (10, 80)] == [[], []]
    assert device.send(31, 122) == ["TRIGGERED"]
    waiting = hot(rule(for_seconds=60))
    assert waiting.command("SNOOZE", 1, minutes=2) == ["SNOOZED"]
    assert waiting.send(31, 70) == []
    assert waiting.tick(122) == ["TRIGGERED"]
    calm = Device(rule())
    calm.command("SNOOZE", 1, minutes=2)
    assert calm.tick(122) == []
    assert calm.status == "OK"


def test_an_open_alert_is_acknowledged_with_a_note() -> None:
    """The alert goes on, and its end ends the acknowledgement."""
    device = hot()
    assert device.command("ACKNOWLEDGE", 5, note="on my way") == ["ACKNOWLEDGED"]
    change = device.last
    assert (change.by, change.note, change.alert_id) == ("anna", "on my way", device.changes[0].alert_id)
    assert json.loads(change.to_json())["note"] == "on my way"
    noted = Acknowledged(1_777_629_605_000, "anna", "on my way")
    assert (device.entry.acknowledged, device.status) == (noted, "ACTIVE")
    assert device.send(32, 10) == []
    assert device.entry.acknowledged == noted
    assert device.send(20, 20) == ["RESOLVED"]
    assert "note" not in json.loads(device.last.to_json())
    device.send(31, 30)
    assert device.entry.acknowledged is None


def test_an_acknowledgement_lasts_through_a_snooze_but_not_into_the_next_alert() -> None:
    """The alert after a snooze has another id."""
    device = hot()
    device.command("ACKNOWLEDGE", 1)
    device.command("SNOOZE", 2, minutes=1)
    assert device.entry.acknowledged
    assert device.command("ACKNOWLEDGE", 3, note="again") == ["ACKNOWLEDGED"]
    assert device.tick(63) == ["TRIGGERED"]
    assert device.entry.acknowledged is None


def test_only_an_open_alert_can_be_acknowledged() -> None:
    """Neither a rule in order, nor one that waits, nor a disabled one."""
    disabled = hot()
    disabled.command("DISABLE", 1)
    for device in (Device(rule()), hot(rule(for_seconds=60)), disabled):
        with pytest.raises(CannotManage, match="no open alert"):
            device.command("ACKNOWLEDGE", 2)


def test_a_repeated_acknowledgement_changes_nothing() -> None:
    """A redelivered one; one of another person is another."""
    device = hot()
    device.command("ACKNOWLEDGE", 1, command_id="a")
    assert device.command("ACKNOWLEDGE", 1, command_id="a") == []
    assert device.command("ACKNOWLEDGE", 2, command_id="b") == ["ACKNOWLEDGED"]


def test_a_disabled_rule_cannot_be_snoozed() -> None:
    """The answer says what to do first."""
    device = hot()
    device.command("DISABLE", 1)
    with pytest.raises(CannotManage, match="ENABLE it first"):
        device.command("SNOOZE", 2, minutes=1)


@pytest.mark.parametrize(("action", "minutes"), [("SNOOZE", 1), ("DISABLE", None), ("ENABLE", None)])
def test_an_unknown_rule_is_an_error(action: str, minutes: float | None) -> None:
    """A misspelt rule_id must not look obeyed."""
    device = Device(rule(key="temperature"))
    with pytest.raises(CannotManage, match="did you mean `temperature`"):
        device.command(action, 0, minutes, rule_id="temprature")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"action": "snooze"}, "action"),
        ({"action": None}, "action"),
        ({"device_id": "a//c"}, "device_id"),
        ({"device_id": ""}, "device_id"),
        ({"rule_id": 7}, "rule_id"),
        ({"duration_minutes": 0}, "duration_minutes"),
        ({"duration_minutes": 50_000}, "duration_minutes"),
        ({"duration_minutes": "5"}, "duration_minutes"),
        ({"duration_minutes": None}, "duration_minutes"),
        ({"action": "DISABLE"}, "duration_minutes"),
        ({"action": "ACKNOWLEDGE"}, "duration_minutes"),
        ({"note": "n"}, "note"),
        ({"note": 5}, "note"),
        ({"action": "ACKNOWLEDGE", "duration_minutes": None, "note": " "}, "note"),
        ({"action": "ACKNOWLEDGE", "duration_minutes": None, "note": "x" * 501}, "note"),
        ({"duration": 5}, "duration"),
    ],
)
def test_a_command_that_is_none_is_told_what_it_must_be(change: dict[str, Any], path: str) -> None:
    """Each fault has its path."""
    with pytest.raises(InvalidCommand) as caught:
        parse_command(COMMAND | change)
    assert [error["path"] for error in caught.value.errors] == [path]


@pytest.mark.parametrize("document", [b"", b"7", b"[]", b"\xff", 7, None, b" " * 5000])
def test_a_document_that_is_no_object_is_no_command(document: Any) -> None:
    """Whatever comes, the answer is a fault."""
    with pytest.raises(InvalidCommand):
        parse_command(document)


def test_a_command_may_come_as_bytes() -> None:
    """As MQTT brings it."""
    assert parse_command(b'{"device_id": "d", "rule_id": "t", "action": "ENABLE"}').action == "ENABLE"
