"""The page of rules and alerts says what the code does."""

import json
from pathlib import Path
from typing import get_args

from ingest.cli.rules_page.__main__ import markdown
from ingest.cli.rules_page.alerts import SNOOZE
from ingest.cli.rules_page.examples import EXAMPLES, changes_of
from ingest.cli.rules_page.meanings import ACTIONS, FIELDS, OPERATORS, REASONS, STATUSES
from ingest.cli.rules_page.rules import GROUPED
from tasks.rules import change, commands
from tasks.rules.change import ChangeStatus, notice
from tasks.rules.model import Operator, Rule
from tasks.rules.parsing import parse_rules
from tasks.rules.queries import AlertsQuery, RulesQuery

PAGE = Path(__file__).resolve().parents[4] / "docs" / "rules.md"


def test_the_page_is_up_to_date() -> None:
    """`python -m ingest.cli.rules_page > docs/rules.md` has been run since the last change."""
    assert PAGE.read_text() == markdown()


def test_everything_has_its_line() -> None:
    """Operators, actions, statuses that are published, reasons, and the fields that one can write."""
    assert set(OPERATORS) == set(get_args(Operator))
    assert set(ACTIONS) == set(get_args(commands.Action))
    assert set(STATUSES) == {*get_args(ChangeStatus)} - {change.REFUSED}
    reasons = {change.RULE_REMOVED, change.RULE_CHANGED, change.SNOOZE_ENDED, change.RETURNED, change.CALM}
    assert set(REASONS) - {"until TIME"} == reasons
    for model in (Rule, commands.Command, RulesQuery, AlertsQuery):
        assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_each_example_triggers_and_each_published_field_has_its_line() -> None:
    """In the order in which it is published."""
    for example in EXAMPLES:
        triggered = [
            one for _, changes in changes_of(example) for one in changes if one.status == "TRIGGERED"
        ]
        assert len(triggered) == 1 or "flapping" in example.rule
        record = triggered[0].to_record() | {"values": {}, "reason": "", "by": "", "note": ""}
        assert list(json.loads(notice(record))) == list(FIELDS)


def test_the_rule_about_groups_is_one() -> None:
    """It is about the group's devices alone, and colder where the page says so."""
    rules = parse_rules([GROUPED]).with_groups(
        {"cold-room": frozenset({"fridge", "freezer-1"}), "deep": frozenset({"freezer-1", "x"})}
    )
    found = {device: rules.of_device(device).rules for device in ("fridge", "freezer-1", "x")}
    assert {device: [rule.threshold for rule in own] for device, own in found.items()} == {
        "fridge": [8],
        "freezer-1": [-18],
        "x": [],
    }


def test_the_command_of_the_page_is_one() -> None:
    """It is parsed as a user's would be."""
    assert commands.parse_command(SNOOZE).action == "SNOOZE"
