"""The operator's rules hold for every user, beside the user's own, and neither is in the way of the other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.commands import CannotManage, Origin, manage, parse_command
from tasks.rules.everyone import beside, named
from tasks.rules.parsing import InvalidRules, parse_rules, sift_rules
from tasks.rules.rule import NO_RULES
from tests.unit.tasks.rules.device import Device, rule

OWN = parse_rules([rule(threshold=30), rule("<", 0, id="cold")])
OPERATORS = named(parse_rules([rule(threshold=90), rule(key="u", id="high")]))


def test_a_user_without_rules_of_the_operator_keeps_the_same_set() -> None:
    """So that what most installations have costs nothing."""
    assert beside(OWN, ()) is OWN
    assert beside(OWN, named(NO_RULES)) is OWN


@given(st.lists(st.fixed_dictionaries({}, optional={"t": st.integers(-5, 99), "u": st.integers(0, 50)})))
def test_both_judge_as_if_they_were_alone(readings: list[dict[str, Any]]) -> None:
    """Each change of the user's own rules and of the operator's, the latter under their own names."""
    own, operators, both = Device(), Device(), Device()
    own.rules = OWN
    operators.rules = beside(NO_RULES, OPERATORS)
    both.rules = beside(OWN, OPERATORS)
    for second, reading in enumerate(readings):
        for device in (own, operators, both):
            device.send(reading, second)
    seen = [(one.rule_id, one.status, one.time, one.value) for one in both.changes]
    apart = [(one.rule_id, one.status, one.time, one.value) for one in (*own.changes, *operators.changes)]
    assert sorted(seen, key=str) == sorted(apart, key=str)
    assert {one.rule_id for one in operators.changes} <= {"operator:t", "operator:high"}


def test_the_groups_of_the_operators_rules_are_the_users() -> None:
    """Each user has devices of their own in a group of that name."""
    operators = named(parse_rules([rule(devices="@cold")]))
    rules = beside(NO_RULES.with_groups({"cold": frozenset({"f1"})}), operators)
    assert [len(rules.of_device(device).rules) for device in ("f1", "f2")] == [1, 0]


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (rule(id="operator:t"), "rules.0.id"),
        (rule(key="operator:t"), "rules.0.key"),
        (rule(id="operator:"), "rules.0.id"),
        (rule(id="operator:t", operator="=>"), "rules.0.id"),
    ],
)
def test_no_user_can_take_the_names_of_these_rules(wrong: dict[str, Any], path: str) -> None:
    """Neither as an `id` nor as a `key`, and the answer says it along with every other fault."""
    with pytest.raises(InvalidRules) as caught:
        parse_rules([wrong])
    assert (
        "must not begin with `operator:`"
        in {one["path"]: one["message"] for one in caught.value.errors}[path]
    )
    assert parse_rules([wrong | {"id": "operators:t", "operator": ">"}])


def test_a_stored_rule_of_such_a_name_goes_on_until_the_operator_takes_it() -> None:
    """It is from before the names were reserved."""
    old = sift_rules([rule(id="operator:t"), rule(id="mine")])
    assert not old.faults
    assert list(beside(old.rules, ()).by_id) == ["operator:t", "mine"]
    merged = beside(old.rules, OPERATORS)
    assert list(merged.by_id) == ["mine", "operator:t", "operator:high"]
    assert merged.by_id["operator:t"].threshold == 90


def test_alerts_of_these_rules_take_no_room_from_the_users_own() -> None:
    """Neither does a user with too many alerts of their own miss them."""
    device = Device()
    device.rules, device.most = beside(OWN, OPERATORS), 1
    assert device.send({"t": 95}, 1) == ["TRIGGERED", "TRIGGERED"]
    assert device.state.open_alerts == 1
    assert device.send({"u": 99}, 2) == ["TRIGGERED"]
    assert device.send({"t": 20, "u": 1}, 3) == ["RESOLVED", "RESOLVED", "RESOLVED"]
    assert device.state.open_alerts == 0
    device.most = 0
    assert device.send({"t": 95}, 4) == ["REFUSED", "TRIGGERED"]


def test_a_user_can_snooze_them_and_not_disable_them() -> None:
    """The operator can do both."""
    device = Device()
    device.rules = beside(OWN, OPERATORS)
    device.send({"u": 99}, 1)

    def do(action: str, by: str, **more: Any) -> list[str]:
        document = {"device_id": "d", "rule_id": "operator:high", "action": action, **more}
        command = parse_command(document)
        origin = Origin(f"{action} {by}", 1_777_629_700_000, by)
        device.state, changes = manage(device.state, device.rules, command, origin)
        return [change.status for change in changes]

    with pytest.raises(CannotManage, match="is a rule of the operator, which cannot be disabled; SNOOZE"):
        do("DISABLE", "ada")
    assert do("SNOOZE", "ada", duration_minutes=5) == ["SNOOZED"]
    assert do("DISABLE", "operator/eve") == ["DISABLED"]


def test_a_command_can_name_the_longest_of_them() -> None:
    """One without an `id` is named by its key."""
    (longest,) = named(parse_rules([rule(key="k" * 256)]))
    command = {"device_id": "d", "rule_id": longest.rule_id, "action": "ACKNOWLEDGE"}
    assert parse_command(command).rule_id == "operator:" + "k" * 256
