"""The fate of an alert when its user changes the rules."""

from tests.unit.tasks.rules.device import Device, rule

OTHER = rule(key="x")


def test_a_rule_that_is_gone_resolves_its_alert_with_that_reason() -> None:
    """At the next reading, whatever it holds, and once."""
    device = Device(rule())
    device.send(31, 0)
    device.change_rules(OTHER)
    assert device.send({}, 1) == ["RESOLVED"]
    assert (device.last.reason, device.last.value, device.last.message) == ("rule_removed", 31, "too hot")
    assert device.send(31, 2) == []


def test_a_rule_that_is_gone_needs_no_reading() -> None:
    """A silent device's alerts do not outlive their rules either."""
    device = Device(rule())
    device.send(31, 0)
    assert device.change_rules(at=5) == ["RESOLVED"]
    assert device.change_rules(at=6) == []


def test_what_was_never_told_is_dropped_in_silence() -> None:
    """A rule that is gone while it waits, or while disabled, leaves nothing behind."""
    device = Device(rule(for_seconds=60), rule(id="other"))
    device.command("DISABLE", 0, rule_id="other")
    device.send({"t": 31}, 0)
    assert device.change_rules(at=1) == []
    assert not device.state.entries


def test_a_changed_threshold_is_judged_at_the_next_reading() -> None:
    """The alert goes on under its id if it is violated still, and else ends."""
    device = Device(rule())
    device.send(35, 0)
    assert device.change_rules(rule(threshold=33), at=1) == []
    assert device.send(35, 2) == []
    device.change_rules(rule(threshold=40, message="far too hot"))
    assert device.send(35, 3) == ["RESOLVED"]
    assert (device.last.threshold, device.last.message, device.last.count) == (40, "far too hot", 2)
    assert device.last.reason is None
    assert device.last.alert_id == device.changes[0].alert_id


def test_a_lowered_threshold_may_trigger_at_the_next_reading() -> None:
    """No restart, no other event is needed."""
    device = Device(rule())
    device.send(25, 0)
    device.change_rules(rule(threshold=20))
    assert device.send(25, 1) == ["TRIGGERED"]


def test_a_changed_threshold_starts_the_waiting_anew() -> None:
    """It is not known since when the new threshold is violated."""
    device = Device(rule(for_seconds=60))
    device.send(31, 0)
    device.change_rules(rule(threshold=25, for_seconds=60))
    assert device.send(31, 60) == []
    assert device.send(31, 120) == ["TRIGGERED"]


def test_another_key_or_operator_is_another_rule() -> None:
    """The old alert is about something else and ends; the new rule is judged by itself, at once."""
    device = Device(rule(id="r"))
    device.send(31, 0)
    device.change_rules(rule("<", 40, id="r"))
    assert device.send(31, 1) == ["RESOLVED", "TRIGGERED"]
    assert device.changes[1].reason == "rule_changed"
    assert (device.changes[1].operator, device.changes[2].operator) == (">", "<")
    assert device.changes[2].alert_id != device.changes[1].alert_id
    assert device.change_rules(rule("<", 40, id="r", key="x"), at=2) == ["RESOLVED"]


def test_a_disabled_rule_stays_disabled_when_it_changes() -> None:
    """A command is about the rule_id."""
    device = Device(rule())
    device.command("DISABLE", 0)
    device.change_rules(rule(">=", 10), at=1)
    assert device.send(31, 2) == []
    assert device.command("ENABLE", 3) == ["ENABLED"]
    assert device.send(31, 4) == ["TRIGGERED"]
    assert device.last.operator == ">="


def test_a_command_tells_of_the_rule_as_it_is() -> None:
    """Not as it was when an earlier command was obeyed."""
    device = Device(rule())
    device.command("DISABLE", 0)
    device.change_rules(rule(message="hot"))
    device.command("ENABLE", 1)
    assert device.last.message == "hot"
    device.change_rules(rule("<", 5, message="cold"))
    assert device.send(31, 2) == []
    device.command("DISABLE", 3)
    assert (device.last.message, device.last.operator) == ("cold", "<")


def test_a_snooze_goes_on_when_its_rule_changes() -> None:
    """The old alert ends; the new rule is silent until the snooze is over."""
    device = Device(rule())
    device.send(31, 0)
    device.command("SNOOZE", 1, minutes=1)
    device.change_rules(rule(">=", 10))
    assert device.send(31, 2) == ["RESOLVED"]
    assert device.send(31, 62) == ["TRIGGERED"]
