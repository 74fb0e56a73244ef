"""The severity of an alert rises with its values, and does not fall before its end."""

from typing import Any

import pytest

from ingest.admin.rulesets.rules import explain
from tasks.rules.active_alerts import rebuild, rows
from tasks.rules.parsing import InvalidRules, parse_rules
from tasks.rules.state import DeviceState
from tests.unit.tasks.rules.device import Device, rule

STEPS = [{"severity": "high", "threshold": 40}, {"severity": "critical", "threshold": 50}]
OVEN = rule(escalate=STEPS)


def told(device: Device) -> list[tuple[str, str]]:
    """The changes that the user got, with the severities."""
    return [(change.status, change.severity) for change in device.changes]


def faults(*rules: Any) -> dict[str, str]:
    """The errors of a document, by their paths."""
    with pytest.raises(InvalidRules) as caught:
        parse_rules(list(rules))
    return {error["path"]: error["message"] for error in caught.value.errors}


def test_each_rise_is_told_once_under_one_alert() -> None:
    """A lower value changes nothing, nor does the same one again; the end has the highest severity."""
    device = Device(OVEN)
    for at, value in enumerate((31, 41, 35, 42, 51, 41, 60, 20)):
        device.send(value, at)
    assert told(device) == [
        ("TRIGGERED", "warning"),
        ("ESCALATED", "high"),
        ("ESCALATED", "critical"),
        ("RESOLVED", "critical"),
    ]
    assert len({change.alert_id for change in device.changes}) == 1
    assert [change.value for change in device.changes] == [31, 41, 51, 20]
    assert device.send(31, 20) == ["TRIGGERED"]
    assert device.last.severity == "warning"


def test_readings_that_come_again_raise_nothing() -> None:
    """A batch that is run again is of before."""
    device = Device(OVEN)
    device.send(31, 0)
    device.send(41, 1)
    assert device.judge(*device.sent) == []


def test_a_step_may_be_skipped() -> None:
    """There is one change for a reading, to the highest severity that it reaches."""
    device = Device(OVEN)
    device.send(31, 0)
    device.send(55, 1)
    assert told(device) == [("TRIGGERED", "warning"), ("ESCALATED", "critical")]


def test_an_alert_begins_with_the_highest_severity_of_its_violation() -> None:
    """Also if the clock triggers it, and the value was lower at last."""
    device = Device(rule(for_seconds=60, escalate=STEPS))
    device.send(45, 0)
    device.send(31, 30)
    assert device.tick(60) == ["TRIGGERED"]
    assert (device.last.severity, device.last.value) == ("high", 31)


def test_a_violation_that_ended_before_its_alert_leaves_no_severity() -> None:
    """The next one begins with its own."""
    device = Device(rule(for_seconds=60, escalate=STEPS))
    device.send(45, 0)
    device.send(20, 30)
    device.send(31, 40)
    device.send(31, 100)
    assert told(device) == [("TRIGGERED", "warning")]


def test_a_snoozed_alert_rises_silently_and_comes_back_with_what_it_reached() -> None:
    """A snooze is silence; what follows it is a new alert."""
    device = Device(OVEN)
    device.send(31, 0)
    device.command("SNOOZE", 1, 10)
    assert device.send(55, 2) == []
    assert device.entry.facts.severity == "critical"
    device.send(31, 700)
    assert told(device) == [("TRIGGERED", "warning"), ("SNOOZED", "warning"), ("TRIGGERED", "critical")]


def test_an_acknowledgement_stays() -> None:
    """An alert that somebody has acknowledged stays acknowledged."""
    device = Device(OVEN)
    device.send(31, 0)
    device.command("ACKNOWLEDGE", 1)
    assert device.send(41, 2) == ["ESCALATED"]
    assert device.entry.acknowledged is not None


def test_other_steps_count_from_the_next_reading() -> None:
    """Without steps an alert has its rule's severity, like any alert."""
    device = Device(OVEN)
    device.send(35, 0)
    device.change_rules(rule(escalate=[{"severity": "critical", "threshold": 33}]), at=1)
    assert device.send(35, 2) == ["ESCALATED"]
    device.change_rules(rule(), at=3)
    assert device.send(35, 4) == []
    assert device.send(20, 5) == ["RESOLVED"]
    assert device.last.severity == "warning"


def test_below_and_with_a_change_it_is_the_same() -> None:
    """The compared value counts: of `delta`, the difference."""
    device = Device(rule("<", -1, escalate=[{"severity": "high", "threshold": -5}]))
    assert [device.send(value, at) for at, value in enumerate((-2, -5, -6))] == [
        ["TRIGGERED"],
        [],
        ["ESCALATED"],
    ]
    device = Device(rule(threshold=1, change="delta", escalate=[{"severity": "high", "threshold": 5}]))
    sent = [device.send(value, at) for at, value in enumerate((0, 2, 9))]
    assert sent == [[], ["TRIGGERED"], ["ESCALATED"]]


def test_bytes_and_rows_hold_the_severity() -> None:
    """A state that is packed, or rebuilt from its rows, publishes no rise again and forgets none."""
    device = Device(OVEN)
    device.send(31, 0)
    device.send(45, 1)
    packed = device.state.pack()
    for state in (DeviceState.unpack("u", "d", packed), rebuild("u", "d", rows(device.state))):
        other = Device(OVEN)
        other.state, other.offset = state, device.offset
        assert other.send(42, 3) == []
        assert other.send(51, 4) == ["ESCALATED"]
        assert other.last.alert_id == device.last.alert_id


def test_a_device_may_have_steps_of_its_own() -> None:
    """Beside its own threshold."""
    own = {"d": {"threshold": 60, "escalate": [{"severity": "high", "threshold": 70}]}}
    rules = parse_rules([rule(escalate=STEPS, overrides=own)])
    (compiled,) = rules.of_device("d").by_id.values()
    assert [tuple(level) for level in compiled.levels] == [("high", 70)]


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"escalate": []}, "escalate", "an array of 1 to 4 steps"),
        ({"escalate": [STEPS[0]] * 5}, "escalate", "an array of 1 to 4 steps"),
        ({"escalate": ["high"]}, "escalate[0]", "an object of severity and threshold"),
        ({"escalate": [{"severity": "high"}]}, "escalate[0].threshold", "is missing"),
        ({"escalate": [{**STEPS[0], "limit": 1}]}, "escalate[0].limit", "is not a field of a step"),
        ({"escalate": [{**STEPS[0], "threshold": "40"}]}, "escalate[0].threshold", "a finite number"),
        ({"escalate": [{**STEPS[0], "severity": " "}]}, "escalate[0].severity", "1 to 32 characters"),
        (
            {"escalate": [{**STEPS[0], "threshold": 30}]},
            "escalate[0].threshold",
            "above the threshold before",
        ),
        ({"escalate": STEPS[::-1]}, "escalate[1].threshold", "above the threshold before it, 50"),
        ({"escalate": STEPS, "severity": "high"}, "escalate[0].severity", "its own severity"),
        ({"escalate": STEPS, "operator": "<"}, "escalate[0].threshold", "must be below"),
        ({"escalate": STEPS, "operator": "=="}, "escalate", "needs one of >, <"),
        ({"escalate": STEPS, "threshold": None, "threshold_key": "x"}, "escalate", "`threshold_key`"),
        ({"overrides": {"d": {"escalate": STEPS[::-1]}}}, "overrides.d.escalate[1].threshold", "above"),
        ({"overrides": {"d": {"escalate": [{}]}}}, "overrides.d.escalate[0].severity", "is missing"),
        ({"overrides": {"d": {"threshold": 45}}, "escalate": STEPS}, "overrides.d", "above"),
    ],
)
def test_a_wrong_step_is_refused_with_its_path(fields: dict[str, Any], path: str, words: str) -> None:
    """The sentence says what to write."""
    given = rule(id="r") | fields
    found = faults({name: value for name, value in given.items() if value is not None})
    assert words in found[f"rules.0.{path}"]


def test_a_group_has_no_value_to_rise() -> None:
    """It compares several."""
    group = {
        "id": "c",
        "message": "m",
        "all": [{"key": "t", "operator": ">", "threshold": 1}],
        "escalate": STEPS,
    }
    assert "beside `all`" in faults(group)["rules.0.escalate"]


def test_an_explanation_names_the_steps() -> None:
    """As `sluice rules check` prints it."""
    (sentence,) = explain(parse_rules([OVEN]))
    assert "warning, high beyond 40, critical beyond 50" in sentence
