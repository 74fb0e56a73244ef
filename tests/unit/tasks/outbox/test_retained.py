"""The states that a broker keeps, after any life of a device."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.outbox import retained
from tasks.outbox.entry import entries, parse
from tasks.rules.change import REFUSED, Change, notice
from tests.unit.tasks.rules.lives import CLOCK, COMMANDS, READINGS, RULES, Event, Life, lives, rule_sets

LIVES = lives(READINGS, READINGS, COMMANDS, COMMANDS, RULES, CLOCK)


def _items(changes: list[Change]) -> list[dict[str, Any]]:
    """The changes as the publisher reads them from the outbox."""
    whole = [parse("1-1", one) for one in entries("u", "d", changes, [], [])]
    return [change for entry in whole for change in entry.changes()]


def _publish(kept: dict[str, bytes], items: list[dict[str, Any]], choice: retained.Choice = "on") -> None:
    """Does what a broker does with the messages."""
    for item in items:
        said = retained.message(item, notice(item["record"]), choice)
        if said is not None:
            topic, payload, retain = said
            assert retain
            kept.pop(topic, None)
            if payload:
                kept[topic] = payload


@given(rule_sets(), LIVES, st.data())
def test_after_any_life_the_broker_has_the_open_alerts(
    rules: list[dict[str, Any]], events: list[Event], data: st.DataObject
) -> None:
    """One message for each open alert, its latest notice, whatever part was published twice; no other."""
    device = Life(rules, model=False).live(events).device
    told = [change for change in device.changes if change.status != REFUSED]
    kept: dict[str, bytes] = {}
    items = _items(told)
    # A publisher is killed, and the next one begins at or before what the first had published last.
    killed = data.draw(st.integers(0, len(items)))
    _publish(kept, items[:killed])
    _publish(kept, items[data.draw(st.integers(0, killed)) :])
    latest = {change.rule_id: change for change in told}
    assert kept == {
        retained.topic("u", "d", rule_id): latest[rule_id].to_json()
        for rule_id, entry in device.state.entries.items()
        if entry.is_open
    }


@given(rule_sets(), LIVES)
def test_a_change_is_of_an_open_alert_where_that_was_announced(
    rules: list[dict[str, Any]], events: list[Event]
) -> None:
    """The rebuild finds it from the history alone: the alert was announced, and has not ended up to this."""
    changes = Life(rules, model=False).live(events).device.changes
    announced: set[str] = set()
    for change in changes:
        if change.status in {"TRIGGERED", "FLAPPING"}:
            announced.add(change.alert_id)
        if change.status in {"RESOLVED", "DISABLED"}:
            announced.discard(change.alert_id)
        assert change.is_open == (change.alert_id in announced and change.status != REFUSED)


@given(rule_sets(), LIVES)
def test_clear_leaves_nothing_of_what_changed(rules: list[dict[str, Any]], events: list[Event]) -> None:
    """An operator who has had enough of it gets rid of what is kept, alert by alert."""
    items = _items(list(Life(rules, model=False).live(events).device.changes))
    kept: dict[str, bytes] = {}
    _publish(kept, items)
    _publish(kept, items, "clear")
    assert kept == {}
    _publish(kept, items, "off")
    assert kept == {}


def test_names_are_percent_encoded() -> None:
    """No name makes another level of the topic, or a wildcard."""
    assert retained.topic("u", "a/b", "50% +#ü") == "users/u/alerts/state/a%2Fb/50%25%20%2B%23%C3%BC"


def test_what_an_older_version_has_left_in_the_outbox_is_told_by_its_status() -> None:
    """Where that does not say whether the alert goes on, nothing changes; nor where the notice was ready."""
    record = {"user_id": "u", "device_id": "d", "rule_id": "r"}
    said = {
        status: retained.message({"record": record | {"status": status}}, b"n", "on")
        for status in ("TRIGGERED", "RESOLVED", "SNOOZED")
    }
    topic = "users/u/alerts/state/d/r"
    assert said == {"TRIGGERED": (topic, b"n", True), "RESOLVED": (topic, b"", True), "SNOOZED": None}
    assert retained.message({"notice": "{}"}, b"{}", "on") is None
