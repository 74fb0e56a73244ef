"""Checks of a domain: rules whose condition is code, with all that rules have."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks import registry
from tasks.domain.placement import misplaced
from tasks.rules.change import Change
from tasks.rules.commands import Origin, manage, parse_command
from tasks.rules.machine import Observation
from tasks.rules.parsing import parse_rules
from tasks.rules.rule import NO_RULES, Alert, RuleSet, check
from tasks.rules.state import DeviceState
from tasks.settings import Settings
from tests.stepping import step_all

START = datetime(2026, 5, 1, 10, tzinfo=UTC)
LATE = check("Late")
ONLY = NO_RULES.of("parcels", (LATE,), default=False)
OK = None


class Life:
    """A source, its state, and its changes."""

    def __init__(self, rules: RuleSet = ONLY) -> None:
        self.rules = rules
        self.state = DeviceState("ann", "parcels/p1")
        self.offset = 0

    def hear(self, *check_results: Alert | None, **values: float) -> list[tuple[str, str, str]]:
        """Records of which the check says this; the changes, as rule, status and message."""
        readings = [self.reading({"Late": alert}, **values) for alert in check_results]
        return self.step(*readings)

    def reading(self, check_results: dict[str, Alert | None], **values: float) -> Observation:
        """The next record."""
        self.offset += 1
        time = START + timedelta(seconds=self.offset)
        return Observation(
            0, self.offset, round(time.timestamp() * 1000), time, None, dict(values), check_results
        )

    def step(self, *readings: Observation) -> list[tuple[str, str, str]]:
        """Judges records; the changes."""
        self.state, changes = step_all(self.state, self.rules, readings)
        return told(changes)

    def command(self, action: str, minutes: float | None = None) -> list[tuple[str, str, str]]:
        """A command about the check."""
        document = {"device_id": "parcels/p1", "rule_id": "Late", "action": action}
        command = parse_command(document | {"duration_minutes": minutes})
        at_ms = round((START + timedelta(seconds=self.offset + 0.5)).timestamp() * 1000)
        self.state, changes = manage(self.state, self.rules, command, Origin(str(at_ms), at_ms, "ann"))
        return told(changes)


def told(changes: list[Change] | tuple[Change, ...]) -> list[tuple[str, str, str]]:
    """The message that the user reads."""
    return [(change.rule_id, change.status, change.message) for change in changes]


def test_a_check_is_told_once_and_its_end_once() -> None:
    """However often it says the same, in the words in which it said it first and last."""
    life = Life()
    assert life.hear(OK, Alert("2 h late"), Alert("3 h late")) == [("Late", "TRIGGERED", "2 h late")]
    assert life.hear(OK, OK) == [("Late", "RESOLVED", "3 h late")]
    assert life.hear(Alert("again")) == [("Late", "TRIGGERED", "again")]


def test_a_check_that_says_nothing_changes_nothing() -> None:
    """Neither begins nor ends an alert: it may have failed."""
    life = Life()
    assert life.step(life.reading({})) == []
    life.hear(Alert("late"))
    assert life.step(life.reading({})) == []
    assert life.hear(OK) == [("Late", "RESOLVED", "late")]


def test_records_that_come_again_change_nothing() -> None:
    """By their positions, as for rules."""
    life = Life()
    readings = [life.reading({"Late": alert}) for alert in (Alert("late"), OK, Alert("late"))]
    assert len(life.step(*readings)) == 3
    assert life.step(*readings) == []


def test_a_quiet_source_has_no_state() -> None:
    """Checks that find nothing leave nothing to remember."""
    life = Life()
    life.hear(OK, OK)
    assert life.state.pack() == b""


def test_a_state_with_a_check_survives_its_packing() -> None:
    """An alert goes on after a restart."""
    life = Life()
    life.hear(Alert("late", "critical", 7))
    life.state = DeviceState.unpack("ann", "parcels/p1", life.state.pack())
    assert life.hear(Alert("late")) == []
    assert life.hear(OK) == [("Late", "RESOLVED", "late")]


def test_snooze_disable_and_enable() -> None:
    """The commands of rules."""
    life = Life()
    life.hear(Alert("late"))
    assert life.command("SNOOZE", 1) == [("Late", "SNOOZED", "late")]
    assert life.hear(Alert("later")) == []
    assert life.hear(OK) == [("Late", "RESOLVED", "later")]
    assert life.command("DISABLE")[0][1] == "DISABLED"
    assert life.hear(Alert("late"), OK, Alert("late")) == []
    assert life.command("ENABLE")[0][1] == "ENABLED"
    assert life.hear(Alert("late")) == [("Late", "TRIGGERED", "late")]


def test_a_check_that_is_gone_resolves_its_alert() -> None:
    """As a rule that is gone does."""
    life = Life()
    life.hear(Alert("late"))
    life.rules = NO_RULES
    assert life.step(life.reading({})) == [("Late", "RESOLVED", "late")]


def test_checks_and_rules_are_judged_side_by_side() -> None:
    """Each for itself; a rule with a check's name gives way to it."""
    heavy = {"key": "weight", "operator": ">", "threshold": 5, "message": "heavy", "domain": "parcels"}
    rules = parse_rules([heavy, heavy | {"id": "Late"}]).of("parcels", (LATE,), default=False)
    life = Life(rules)
    assert life.hear(OK, weight=9) == [("weight", "TRIGGERED", "heavy")]
    assert life.hear(Alert("late"), weight=9) == [("Late", "TRIGGERED", "late")]
    assert life.hear(OK, weight=1) == [("weight", "RESOLVED", "heavy"), ("Late", "RESOLVED", "late")]


def test_rules_are_about_the_domain_that_they_name() -> None:
    """Those that name none are about the default domain alone."""
    rule = {"key": "x", "operator": ">", "threshold": 5, "message": "m"}
    rules = parse_rules([rule | {"id": "a"}, rule | {"id": "b", "domain": "parcels"}])
    assert list(rules.of("telemetry", (), default=True).by_id) == ["a"]
    assert list(rules.of("parcels", (), default=False).by_id) == ["b"]
    assert list(rules.of("boxes", (), default=False).by_id) == []
    alone = parse_rules([rule])
    assert alone.of("telemetry", (), default=True) is alone


def test_rules_that_could_never_be_judged_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """About a domain that is none here, or by the name of a check of the domain that they are about."""
    served = Settings(domains="tasks.telemetry,examples.logistics")
    monkeypatch.setattr(registry, "settings", lambda: served)
    rule = {"key": "x", "operator": ">", "threshold": 5, "message": "m"}
    names = ("fine", "packages"), ("astray", "boxes"), ("DeliveryDelay", "packages"), ("DeliveryDelay2", None)
    rules = [rule | {"id": rule_id, "domain": domain} for rule_id, domain in names]
    assert misplaced(parse_rules(rules)) == [
        {"path": "rules.1.domain", "message": "must be one of telemetry, packages, got boxes"},
        {
            "path": "rules.2.id",
            "message": "DeliveryDelay is a check of packages; give the rule an `id` of its own",
        },
    ]
    assert misplaced(parse_rules([rule | {"id": "DeliveryDelay"}])) == []
