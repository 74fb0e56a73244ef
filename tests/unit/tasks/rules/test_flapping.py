"""An alert that comes and goes is published as one, FLAPPING, until it is calm."""

from typing import Any

import pytest

from ingest.admin.rulesets.rules import explain
from tasks.rules.active_alerts import rebuild, rows
from tasks.rules.parsing import InvalidRules, parse_rules
from tasks.rules.state import CONDITIONS_VERSION, VERSION, DeviceState
from tests.unit.tasks.rules.device import Device, rule

FLAPPING = {"changes": 4, "minutes": 10}
GATE = rule(flapping=FLAPPING)


def flapping(*rules: dict[str, Any]) -> Device:
    """Two alerts within a minute, and the one too many, at 60 s, which is over at 70 s."""
    device = Device(*(rules or (GATE,)))
    for at, value in enumerate((31, 20, 31, 20, 31)):
        device.send(value, 15 * at)
    assert device.send(20, 70) == []
    return device


def statuses(device: Device) -> list[str]:
    """The changes that the user got."""
    return [change.status for change in device.changes]


def test_one_alert_too_many_is_told_as_flapping_and_what_follows_is_not() -> None:
    """Each alert before it had its end; it has an id of its own."""
    device = flapping()
    assert statuses(device) == ["TRIGGERED", "RESOLVED"] * 2 + ["FLAPPING"]
    assert len({change.alert_id for change in device.changes}) == 3
    for at in range(80, 600, 10):
        assert device.send(31 if at % 20 else 20, at) == []
    assert device.status == "FLAPPING"


@pytest.mark.parametrize(("value", "told"), [(20, "RESOLVED"), (31, "TRIGGERED")])
def test_calm_is_told_once_by_the_clock(value: float, told: str) -> None:
    """Ten minutes after the latest change, under the id of the alert: as violated or as over."""
    device = flapping()
    device.send(31, 90)
    device.send(value, 100)
    last = 100 if value == 20 else 90
    assert device.tick(last + 599) == []
    assert device.tick(last + 600) == [told]
    assert (device.last.reason, device.last.alert_id) == ("calm", device.changes[-2].alert_id)
    assert device.tick(last + 2000) == []
    assert device.status == ("OK" if told == "RESOLVED" else "ACTIVE")


def test_a_reading_after_the_calm_tells_how_it_stands() -> None:
    """Whichever comes first, it or the clock; counting begins again."""
    for value, told in ((31, "TRIGGERED"), (20, "RESOLVED")):
        device = flapping()
        assert device.send(value, 669) == []
        device = flapping()
        assert device.send(value, 670) == [told]
        assert device.last.value == value
    assert [device.send(value, 671 + at) for at, value in enumerate((31, 20, 31, 20, 31))] == [
        ["TRIGGERED"],
        ["RESOLVED"],
        ["TRIGGERED"],
        ["RESOLVED"],
        ["FLAPPING"],
    ]


def test_the_time_is_that_of_the_readings() -> None:
    """A backlog that comes at once did not flap if its own times are far from each other."""
    device = Device(GATE)
    for number in range(8):
        assert device.send(31 if number % 2 == 0 else 20, 10_000 + number, time=1000 * number)
    assert "FLAPPING" not in statuses(device)


def test_changes_that_are_far_enough_apart_are_all_told() -> None:
    """The fifth comes ten minutes after the first."""
    device = Device(GATE)
    told = [device.send(31 if at % 300 == 0 else 20, at) for at in range(0, 3000, 150)]
    assert all(told)
    assert "FLAPPING" not in statuses(device)


def test_late_and_repeated_readings_are_no_changes() -> None:
    """They are not published, and the calm comes when it would have come."""
    device = flapping()
    before = device.state
    device.judge(*device.sent)
    device.send(31, 300, time=30)
    assert device.state._replace(positions=before.positions) == before
    assert device.tick(669) == []
    assert device.tick(670) == ["RESOLVED"]


def test_absences_flap_by_the_clock() -> None:
    """A device whose connection comes and goes."""
    device = Device(
        {
            "id": "t",
            "operator": "absent",
            "for_seconds": 60,
            "message": "m",
            "flapping": {"changes": 2, "minutes": 5},
        }
    )
    device.send(1, 0)
    assert device.tick(60, seen=0) == ["TRIGGERED"]
    assert device.send(1, 61) == ["RESOLVED"]
    assert device.tick(121, seen=61) == ["FLAPPING"]
    assert device.send(1, 130) == []
    assert device.tick(190, seen=130) == []
    assert device.tick(489, seen=130) == []
    assert device.tick(490, seen=130) == ["TRIGGERED"]
    assert device.send(1, 500) == ["RESOLVED"]


def test_a_command_ends_the_flapping() -> None:
    """A snooze resolves what is over; DISABLE is the last change; ACKNOWLEDGE stays through the calm."""
    device = flapping()
    assert device.command("SNOOZE", 80, 60) == ["SNOOZED", "RESOLVED"]
    assert device.send(31, 90) == []
    device = flapping()
    device.send(31, 75)
    assert device.command("SNOOZE", 80, 1) == ["SNOOZED"]
    assert device.tick(140) == ["TRIGGERED"]
    assert device.last.reason == "snooze_ended"
    device = flapping()
    assert device.command("DISABLE", 80) == ["DISABLED"]
    assert device.tick(5000) == []
    device = flapping()
    device.send(31, 75)
    assert device.command("ACKNOWLEDGE", 80) == ["ACKNOWLEDGED"]
    assert device.tick(675) == ["TRIGGERED"]
    assert device.entry.acknowledged is not None


def test_a_rule_that_no_longer_flaps_tells_how_it_stands() -> None:
    """And one that is gone ends its alert."""
    device = flapping()
    device.change_rules(rule(), at=80)
    assert device.tick(81) == ["RESOLVED"]
    device = flapping()
    assert device.change_rules(rule(id="other"), at=80) == ["RESOLVED"]
    assert device.last.reason == "rule_removed"


def test_an_alert_without_room_is_no_change() -> None:
    """It is refused, and triggers later like any other."""
    device = Device(GATE)
    device.most = 0
    for at in range(20):
        device.send(31 if at % 2 else 20, at)
    assert {*statuses(device)} == {"REFUSED"}
    device.most = 1
    assert device.send(31, 30) == ["TRIGGERED"]


def test_bytes_and_rows_hold_how_often_it_changed() -> None:
    """Also for an alert that is over, as long as it counts; then nothing is left of it."""
    device = Device(GATE)
    for at, value in enumerate((31, 20, 31, 20)):
        device.send(value, at)
    (row,) = rows(device.state)
    assert (row.status, row.alert_id, len(row.changed_at or ())) == ("RESOLVED", None, 4)
    packed = device.state.pack()
    assert packed[0] == VERSION > CONDITIONS_VERSION
    for state in (DeviceState.unpack("u", "d", packed), rebuild("u", "d", rows(device.state))):
        other = Device(GATE)
        other.state, other.offset = state, device.offset
        assert other.send(31, 5) == ["FLAPPING"]
        (row,) = rows(other.state)
        assert (row.status, row.violated) == ("FLAPPING", True)
        assert rebuild("u", "d", [row]).entries == other.state.entries
    assert device.tick(602) == []
    assert len(rows(device.state)) == 1
    assert device.tick(603) == []
    assert rows(device.state) == ()


def test_no_more_changes_are_remembered_than_count() -> None:
    """However often it changes, a state stays small."""
    device = Device(rule(flapping={"changes": 2, "minutes": 0.001}))
    for at in range(100):
        device.send(31 if at % 2 else 20, at)
    assert device.entry.flips is not None
    assert len(device.entry.flips.times) == 2


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"flapping": True}, "flapping", 'such as {"changes": 4, "minutes": 10}'),
        ({"flapping": {"changes": 4}}, "flapping.minutes", "is missing; it must be a number of minutes"),
        ({"flapping": {**FLAPPING, "changes": 1}}, "flapping.changes", "a whole number from 2 to 50"),
        ({"flapping": {**FLAPPING, "changes": 51}}, "flapping.changes", "a whole number from 2 to 50"),
        ({"flapping": {**FLAPPING, "minutes": 0}}, "flapping.minutes", "above 0, up to 1440"),
        ({"flapping": {**FLAPPING, "minutes": "10"}}, "flapping.minutes", "above 0, up to 1440"),
        ({"flapping": {**FLAPPING, "minuts": 1}}, "flapping.minuts", "did you mean `minutes`?"),
        ({"flapping": FLAPPING, "for_seconds": 600}, "flapping.minutes", "more than the 600 s"),
        (
            {"flapping": FLAPPING, "overrides": {"d": {"for_seconds": 900}}},
            "flapping.minutes",
            "`for_seconds` of d",
        ),
    ],
)
def test_a_wrong_limit_is_refused_with_its_path(fields: dict[str, Any], path: str, words: str) -> None:
    """The sentence says what to write."""
    with pytest.raises(InvalidRules) as caught:
        parse_rules([rule() | fields])
    found = {error["path"]: error["message"] for error in caught.value.errors}
    assert words in found[f"rules.0.{path}"]


def test_an_explanation_says_when_it_flaps() -> None:
    """As `sluice rules check` prints it."""
    (sentence,) = explain(parse_rules([GATE]))
    assert sentence.endswith("; flapping from 4 changes in 10 min")
