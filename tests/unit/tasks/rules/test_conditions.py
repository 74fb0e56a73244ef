"""Rules that compare more than one number of a reading: what they are, and when they hold."""

import json
from typing import Any

import pytest

from tasks.rules.active_alerts import rebuild, rows
from tasks.rules.model import MAX_COMPARISONS, MAX_REMEMBERED, MAX_TEXT
from tasks.rules.parsing import InvalidRules, parse_rules
from tasks.rules.state import CONDITIONS_VERSION, PLAIN_VERSION, DeviceState, UnknownState
from tests.unit.tasks.rules.device import Device, rule

COLD = {"key": "temperature", "operator": "<", "threshold": 0}
OPEN = {"key": "door", "operator": "==", "threshold": "open"}
FROST = {"id": "t", "all": [COLD, OPEN], "message": "frost"}


def faults(*rules: Any) -> dict[str, str]:
    """The faults of a rule set, by path."""
    with pytest.raises(InvalidRules) as caught:
        parse_rules(list(rules))
    return {error["path"]: error["message"] for error in caught.value.errors}


def one(**fields: Any) -> dict[str, Any]:
    """A rule with one comparison of `t`."""
    return {"id": "t", "key": "t", "message": "m"} | fields


def test_all_of_several_comparisons_trigger_and_one_resolves() -> None:
    """The alert has the compared values, and no key, operator, threshold and value."""
    device = Device(FROST)
    assert device.send({"temperature": -2, "door": "closed"}, 0) == []
    assert device.send({"temperature": -2, "door": "open"}, 1) == ["TRIGGERED"]
    change = device.last
    assert (change.rule_id, change.key, change.operator, change.threshold) == ("t", None, None, None)
    assert (change.value, change.values) == (None, {"temperature": -2, "door": "open"})
    assert json.loads(change.to_json())["values"] == {"temperature": -2, "door": "open"}
    assert device.send({"temperature": 1}, 2) == ["RESOLVED"]
    assert device.last.values == {"temperature": 1}


def test_a_plain_rule_is_published_as_before() -> None:
    """Its notice has no `values`."""
    device = Device(rule())
    device.send(31, 0)
    assert "values" not in json.loads(device.last.to_json())


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"temperature": -2}, []),  # the door is unknown
        ({"temperature": -2, "door": None}, []),
        ({"temperature": -2, "door": 1}, []),
        ({"temperature": "-2", "door": "open"}, []),
        ({"temperature": True, "door": "open"}, []),
        ({"temperature": -2, "door": "open"}, ["TRIGGERED"]),
        ({"temperature": -2, "door": "Open"}, []),
    ],
)
def test_what_is_missing_or_of_another_type_is_unknown(payload: dict[str, Any], told: list[str]) -> None:
    """An unknown condition triggers nothing, and resolves nothing."""
    assert Device(FROST).send(payload, 0) == told
    device = Device(FROST)
    device.send({"temperature": -2, "door": "open"}, 0)
    if not told and payload.get("door") != "Open":
        assert device.send(payload, 1) == []


def test_any_of_several_is_enough_also_inside_all() -> None:
    """Groups may be nested; a missing value matters only if the others do not decide."""
    inner = {"any": [COLD, {"key": "humidity", "operator": ">", "threshold": 90}]}
    device = Device({"id": "t", "all": [OPEN, inner], "message": "m"})
    assert device.send({"door": "open", "humidity": 95}, 0) == ["TRIGGERED"]
    assert device.send({"door": "open", "humidity": 50}, 1) == []
    assert device.send({"door": "open", "humidity": 50, "temperature": 3}, 2) == ["RESOLVED"]


def test_each_comparison_has_a_clear_threshold_of_its_own() -> None:
    """An open alert is over once the condition no longer holds by them."""
    cold = COLD | {"clear_threshold": 2}
    device = Device({"id": "t", "all": [cold, OPEN], "message": "m"})
    device.send({"temperature": -1, "door": "open"}, 0)
    assert device.send({"temperature": 1, "door": "open"}, 1) == []
    assert device.send({"temperature": 2, "door": "open"}, 2) == ["RESOLVED"]


@pytest.mark.parametrize(
    ("fields", "holds", "fails"),
    [
        ({"operator": "==", "threshold": "open"}, "open", "closed"),
        ({"operator": "!=", "threshold": "ok"}, "broken", "ok"),
        ({"operator": "==", "threshold": True}, True, False),
        ({"operator": "==", "threshold": False}, False, True),
        ({"operator": "in", "threshold": ["error", "halt"]}, "halt", "run"),
        ({"operator": "in", "threshold": [1, 2]}, 2.0, 3),
        ({"operator": "in", "threshold": [True, "x"]}, True, False),
    ],
)
def test_strings_booleans_and_lists(fields: dict[str, Any], holds: Any, fails: Any) -> None:
    """A single comparison needs no group; its alert has the key, the threshold and the value."""
    device = Device(one(**fields))
    assert device.send(fails, 0) == []
    assert device.send(holds, 1) == ["TRIGGERED"]
    assert (device.last.key, device.last.operator) == ("t", fields["operator"])
    assert (device.last.threshold, device.last.value) == (fields["threshold"], holds)
    assert device.send(fails, 2) == ["RESOLVED"]


@pytest.mark.parametrize(
    ("threshold", "value"), [(True, 1), (False, 0), ("1", 1), ([0, 1], True), (["1"], 1)]
)
def test_types_are_never_confused(threshold: Any, value: Any) -> None:
    """`true` is not 1, and "1" is not 1."""
    operator = "in" if isinstance(threshold, list) else "=="
    assert Device(one(operator=operator, threshold=threshold)).send(value, 0) == []


def test_two_values_of_a_reading_are_compared() -> None:
    """The alert has both; without one of them nothing is known."""
    device = Device(one(operator=">", threshold_key="outside"))
    assert device.send({"t": 24, "outside": 19}, 0) == ["TRIGGERED"]
    assert (device.last.threshold, device.last.value) == (None, 24)
    assert device.last.values == {"t": 24, "outside": 19}
    assert device.send({"t": 24}, 1) == []
    assert device.send({"t": 24, "outside": 24}, 2) == ["RESOLVED"]


def test_the_change_since_the_reading_before() -> None:
    """`delta` is the difference, whatever the time between; the first reading has none."""
    device = Device(one(change="delta", operator=">", threshold=5))
    assert [device.send(value, at) for at, value in enumerate([20, 24, 30])] == [[], [], ["TRIGGERED"]]
    assert device.last.value == 6
    assert device.send({"other": 1}, 3) == []
    assert device.send(31, 4) == ["RESOLVED"]


def test_the_rate_of_change_per_minute() -> None:
    """By the times of the readings; of two at one time none is known."""
    device = Device(one(change="rate", operator="<", threshold=-2))
    assert device.send(20, 0) == []
    assert device.send(19, 60) == []
    assert device.send(17.5, 90) == ["TRIGGERED"]
    assert device.last.value == -3
    assert device.send(0, 90) == []


def test_a_late_reading_is_not_what_the_next_is_compared_with() -> None:
    """No rule judges it."""
    device = Device(one(change="delta", operator=">", threshold=5))
    device.send(20, 100)
    device.send(0, 110, time=50)
    assert device.send(24, 120) == []


def test_a_clock_that_was_set_begins_again() -> None:
    """A change since another age means nothing."""
    device = Device(one(change="delta", operator=">", threshold=5))
    device.send(20, 0, time=-1e8)
    assert device.send(30, 10) == []
    assert device.send(36, 20) == ["TRIGGERED"]


def test_numbers_beyond_double_precision_have_no_rate() -> None:
    """JSON may hold them, and an alert must be able to."""
    device = Device(
        one(change="rate", operator=">", threshold=5), one(id="d", change="delta", operator="<", threshold=0)
    )
    device.send(10**400, 0)
    assert device.send(1.5, 1) == []
    device.send(1e308, 2)
    assert device.send(-1e308, 3) == []


def test_a_value_that_stays_the_same_for_too_long() -> None:
    """Counted from its first reading; any other value is a relief."""
    device = Device(one(operator="unchanged", for_seconds=600))
    assert [device.send("a", at) for at in (0, 300, 599)] == [[], [], []]
    assert device.send("a", 600) == ["TRIGGERED"]
    assert device.last.first_seen is not None
    assert (device.last.time - device.last.first_seen).total_seconds() == 600
    assert device.send("b", 700) == ["RESOLVED"]


def test_a_text_too_long_to_be_remembered_is_another_value() -> None:
    """The value before it has not stayed the same."""
    device = Device(one(operator="unchanged", for_seconds=600))
    device.send("a", 0)
    device.send("x" * (MAX_TEXT + 1), 300)
    assert device.send("a", 600) == []
    assert device.send("a", 1199) == []
    assert device.send("a", 1200) == ["TRIGGERED"]


def test_a_number_of_readings_in_a_row() -> None:
    """A single odd reading does not raise an alarm."""
    device = Device(rule(for_readings=3))
    assert [device.send(value, at) for at, value in enumerate([31, 29, 31, 32])] == [[], [], [], []]
    assert device.send(33, 5) == ["TRIGGERED"]
    assert device.last.count == 3


def test_both_the_time_and_the_number_must_be_enough() -> None:
    """Whichever takes longer."""
    device = Device(rule(for_readings=2, for_seconds=60))
    assert device.send(31, 0) == []
    assert device.tick(120) == []
    assert device.send(31, 130) == ["TRIGGERED"]


def test_another_threshold_goes_on_and_another_key_does_not() -> None:
    """As with rules of one comparison."""
    device = Device(FROST)
    device.send({"temperature": -2, "door": "open"}, 0)
    warmer = {**FROST, "all": [COLD | {"threshold": 1}, OPEN]}
    assert device.change_rules(warmer, at=1) == []
    other = {**FROST, "all": [COLD | {"key": "outside"}, OPEN]}
    assert device.change_rules(other, at=2) == ["RESOLVED"]
    assert (device.last.reason, device.last.values) == ("rule_changed", {"temperature": -2, "door": "open"})


def test_every_fault_of_a_condition_has_its_path() -> None:
    """One answer is enough to mend the whole document."""
    inner = {"any": [OPEN | {"operator": "=>", "threshold": "8"}, 5, {"keey": "a", "operator": "in"}]}
    found = faults({"all": [COLD, inner], "key": "t", "message": "m"}, {"any": [], "id": "x", "message": "m"})
    assert found.keys() == {
        "rules.0.id",
        "rules.0.key",
        "rules.0.all[1].any[0].operator",
        "rules.0.all[1].any[0].threshold",
        "rules.0.all[1].any[1]",
        "rules.0.all[1].any[2].keey",
        "rules.0.all[1].any[2].key",
        "rules.0.all[1].any[2].threshold",
        "rules.1.any",
    }
    assert "`>=`" in found["rules.0.all[1].any[0].operator"]
    assert "`key`" in found["rules.0.all[1].any[2].keey"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"operator": ">", "threshold": "8"}, "threshold"),
        ({"operator": ">", "threshold": True}, "threshold"),
        ({"operator": "==", "threshold": [1]}, "threshold"),
        ({"operator": "in", "threshold": "a"}, "threshold"),
        ({"operator": "in", "threshold": []}, "threshold"),
        ({"operator": "in", "threshold": [[1]]}, "threshold"),
        ({"operator": "==", "threshold": "x" * 257}, "threshold"),
        ({"operator": ">", "threshold": 1, "threshold_key": "u"}, "threshold"),
        ({"operator": "in", "threshold_key": "u"}, "threshold_key"),
        ({"operator": "==", "threshold": "a", "change": "delta"}, "threshold"),
        ({"operator": "in", "threshold": [1], "change": "rate"}, "change"),
        ({"operator": ">", "threshold": 1, "change": "slope"}, "change"),
        ({"operator": "unchanged", "threshold": 1}, "threshold"),
        ({"operator": "in", "threshold": [1], "clear_threshold": 1}, "clear_threshold"),
        ({"operator": ">", "threshold_key": "u", "clear_threshold": 1}, "clear_threshold"),
        ({"operator": ">", "threshold": 1, "for_readings": 0}, "for_readings"),
        ({"operator": ">", "threshold": 1, "for_readings": 1.0}, "for_readings"),
        ({"operator": "absent", "for_seconds": 9, "for_readings": 2}, "for_readings"),
        ({"all": [COLD], "any": [COLD]}, "any"),
        ({"all": [{"operator": "absent"}]}, "all[0].operator"),
    ],
)
def test_what_does_not_go_together_is_refused(fields: dict[str, Any], path: str) -> None:
    """Each with the path of the field that is to go."""
    base = {"id": "t", "message": "m"} | ({} if "all" in fields else {"key": "t"})
    assert faults(base | fields).keys() == {f"rules.0.{path}"}


def test_nesting_and_numbers_are_bounded() -> None:
    """Judging a reading costs little, whatever a user writes."""
    deep: dict[str, Any] = {"id": "t", "message": "m", "all": [{"any": [{"all": [COLD]}]}]}
    parse_rules([deep])
    assert (
        "too deep"
        in faults({**deep, "all": [deep["all"][0] | {"any": [{"all": [{"all": [COLD]}]}]}]})["rules.0"]
    )
    pairs = [{"any": [COLD] * 4}] * (MAX_COMPARISONS // 4)
    parse_rules([{"id": "t", "message": "m", "all": pairs}])
    assert "too many" in faults({"id": "t", "message": "m", "all": [*pairs, COLD]})["rules.0"]
    rules = [one(id=f"r{n}", key=f"k{n}", operator="unchanged") for n in range(MAX_REMEMBERED + 1)]
    parse_rules(rules[:-1])
    assert "compared with the reading before" in faults(*rules)[f"rules.{MAX_REMEMBERED}"]


def test_what_is_remembered_goes_with_its_rule() -> None:
    """A state keeps nothing that no rule needs."""
    device = Device(one(change="delta", operator=">", threshold=5))
    device.send(20, 0)
    assert device.state.before
    device.change_rules(rule(), at=1)
    assert not device.state.before


def test_the_version_before_reads_what_plain_rules_leave() -> None:
    """During an upgrade its workers go on; only a state with something new has the new version."""
    device = Device(rule())
    device.send(31, 0)
    assert device.state.pack()[0] == PLAIN_VERSION
    device.change_rules(rule(), FROST | {"id": "frost"})
    device.send({"temperature": -2, "door": "open"}, 1)
    packed = device.state.pack()
    assert packed[0] == CONDITIONS_VERSION
    assert DeviceState.unpack("u", "d", packed) == device.state
    device.send({"temperature": 2, "door": "open"}, 2)
    assert device.state.pack()[0] == PLAIN_VERSION


def test_a_state_with_every_kind_of_value_comes_back_from_its_bytes() -> None:
    """Numbers of any size, texts and booleans, and what was before; every cut of it is unknown."""
    change = {"key": "t", "change": "delta", "operator": "!=", "threshold": 0}
    rules = [
        {"id": "x", "message": "m", "any": [change, OPEN, COLD]},
        one(id="text", operator="!=", threshold="a"),
        one(id="same", operator="unchanged"),
        one(id="bool", key="b", operator="==", threshold=True),
    ]
    device = Device(*rules)
    device.send({"t": 10**30, "b": True, "door": "open"}, 0)
    device.send({"t": 10**30 + 1, "b": True, "door": "open"}, 1)
    device.send({"t": "b", "b": True}, 2)
    state = device.state
    assert {type(entry.value) for entry in state.entries.values()} >= {str, bool}
    assert DeviceState.unpack("u", "d", state.pack()) == state
    for length in range(1, len(state.pack())):
        with pytest.raises(UnknownState):
            DeviceState.unpack("u", "d", state.pack()[:length])


def test_the_rows_of_conditions_rebuild_them() -> None:
    """As JSON, the way they come back from the table."""
    device = Device(FROST, one(id="in", operator="in", threshold=["a", "b"], for_seconds=9))
    device.send({"temperature": -2, "door": "open", "t": "a"}, 0)
    written = rows(device.state)
    for row in written:
        json.dumps(row.to_record())
    assert rebuild("u", "d", written).entries == device.state.entries


def test_a_group_that_also_compares_with_before_judges_the_first_reading_without_that_value() -> None:
    """A device of which nothing is remembered yet, and whose reading lacks the remembered key."""
    jump = {"key": "level", "change": "delta", "operator": ">", "threshold": 5}
    hot = {"key": "temperature", "operator": ">", "threshold": 80}
    device = Device({"id": "t", "any": [jump, hot], "message": "m"})
    assert device.send({"temperature": 90}, 0) == ["TRIGGERED"]
