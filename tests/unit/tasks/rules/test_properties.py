"""Random lives of a device, compared with the plain model and held against the promises."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.rules.active_alerts import rebuild
from tests.unit.tasks.rules.lives import (
    AGAIN,
    CLOCK,
    COMMANDS,
    FLAPPING_RULES,
    FLIPS,
    FLIPS_IN_ORDER,
    FORGETFUL_RULES,
    IN_ORDER,
    LONG_CLOCK,
    LOST,
    READINGS,
    REDELIVERED,
    REPEATED,
    REPEATED_COMMANDS,
    RULES,
    Event,
    Life,
    lives,
    rule_sets,
    seen_by,
    told,
    well_formed,
)

# As many examples as other properties have, and that again.
TWICE = 2 * settings().max_examples
LIVES = lives(
    READINGS, READINGS, READINGS, REPEATED, REDELIVERED, COMMANDS, REPEATED_COMMANDS, RULES, CLOCK, AGAIN
)
UNFENCED = AGAIN.map(lambda event: ("anything again", *event[1:]))


FLAPPING_SETS = rule_sets(remembering=False, flapping=True)
FLAPPING_LIVES = st.lists(
    st.one_of(FLIPS, FLIPS, READINGS, CLOCK, LONG_CLOCK, COMMANDS, FLAPPING_RULES), min_size=8, max_size=40
) | st.lists(
    st.one_of(FLIPS_IN_ORDER, FLIPS_IN_ORDER, LONG_CLOCK, AGAIN, COMMANDS, FLAPPING_RULES),
    min_size=8,
    max_size=40,
)
UNCHANGED = {"id": "r1", "message": "m", "for_seconds": 0, "operator": "unchanged", "key": "b"}
DELTA = UNCHANGED | {"id": "r3", "operator": "<", "threshold": 1, "change": "delta"}


def _as_the_model(life: Life) -> None:
    assert life.model
    told(life.device.changes, life.model)
    well_formed(life.device.changes)
    seen_by(life.device.state, life.model)


@settings(max_examples=TWICE)
@given(rule_sets(), LIVES)
@example(
    [UNCHANGED],
    [
        ("reading", 0, 0, {"b": 0}),
        ("rules", [], True),
        ("rules", [DELTA], False),
        ("reading", 0, 0, {"b": 0}),
    ],
)
def test_any_life_is_told_as_the_plain_model_tells_it(
    rules: list[dict[str, Any]], events: list[Event]
) -> None:
    """Readings, rules, commands, silence and redeliveries: the same changes, once each, in order."""
    _as_the_model(Life(rules, packed=True).live(events))


@settings(max_examples=TWICE)
@given(FLAPPING_SETS, FLAPPING_LIVES)
def test_alerts_that_flap_are_told_as_the_plain_model_tells_them(
    rules: list[dict[str, Any]], events: list[Event]
) -> None:
    """Values that go to and fro, and silence between them, late or again, by whatever rules."""
    _as_the_model(Life(rules, packed=True).live(events))


@given(rule_sets(), LIVES)
def test_nothing_depends_on_how_readings_are_cut_into_batches(
    rules: list[dict[str, Any]], events: list[Event]
) -> None:
    """A state that is packed after each event goes on like one that is not."""
    whole, cut = (Life(rules, packed=packed, model=False).live(events).device for packed in (False, True))
    assert whole.changes == cut.changes
    assert whole.state == cut.state


@given(rule_sets() | FLAPPING_SETS, LIVES | FLAPPING_LIVES, st.data())
def test_what_comes_again_changes_nothing(
    rules: list[dict[str, Any]], events: list[Event], data: st.DataObject
) -> None:
    """Whatever slice of the records is judged once more: nothing is announced, and the state stays."""
    life = Life(rules, model=False).live(events)
    state, changes = life.device.state, list(life.device.changes)
    life.again(data.draw(st.integers(0, 80)), data.draw(st.integers(0, 80)))
    after = life.device.state
    # A command that came after the readings makes the device remember where they were.
    assert after._replace(positions=state.positions).same_but_newest(state)
    assert after.positions >= state.positions
    assert life.device.changes == changes
    # If many readings have the newest time, not all their keys are known.
    assert (after.newest and after.newest.time) == (state.newest and state.newest.time)


@given(rule_sets(), lives(READINGS, READINGS, COMMANDS, RULES, CLOCK, UNFENCED))
def test_alerts_are_well_formed_even_if_old_readings_meet_new_rules(
    rules: list[dict[str, Any]], events: list[Event]
) -> None:
    """Readings from before a change of rules that come again after it may be judged by the new ones, once."""
    well_formed(Life(rules, model=False).live(events).device.changes)


@settings(max_examples=TWICE)
@given(
    rule_sets(remembering=False) | FLAPPING_SETS,
    lives(IN_ORDER, IN_ORDER, FLIPS_IN_ORDER, COMMANDS, FORGETFUL_RULES, CLOCK | LONG_CLOCK, AGAIN, LOST),
)
def test_a_lost_state_loses_nothing(rules: list[dict[str, Any]], events: list[Event]) -> None:
    """Rebuilt from the rows and the history, with the uncommitted readings again, the same changes follow."""
    life = Life(rules)
    for event in events:
        life.live([event])
        if event[0] in {"command", "clock", "rules"}:
            life.forget(everything=True)
    assert life.model
    told(life.device.changes, life.model)
    well_formed(life.device.changes)


@given(rule_sets() | FLAPPING_SETS, LIVES | FLAPPING_LIVES)
def test_the_rows_always_hold_the_whole_state(rules: list[dict[str, Any]], events: list[Event]) -> None:
    """After each event, the rows say how every rule stands; a rule in order has none."""
    life = Life(rules, model=False)
    for event in events:
        life.live([event])
        life.write()
        rebuilt = rebuild("u", "d", life.rows.values())
        entries = life.device.state.entries
        assert rebuilt.entries == {name: entry for name, entry in entries.items() if entry.has_row}


A_ABOVE_0 = {"id": "r1", "operator": ">", "message": "m", "key": "a", "threshold": 0, "for_seconds": 0}
CLOCK_SET_BACK: list[Event] = [
    ("reading", 0, 200_000, {"a": 1}),
    ("repeated", 0, 0, {}),
    ("reading", 0, 0, {"a": 1}),
]


@settings(max_examples=TWICE)
@given(rule_sets(), LIVES, st.lists(st.integers(0, 3), min_size=1, max_size=4))
@example([A_ABOVE_0], [*[("reading", 0, 0, {})] * 3, *CLOCK_SET_BACK], [0])
def test_no_more_alerts_are_open_than_there_is_room_for(
    rules: list[dict[str, Any]], events: list[Event], rooms: list[int]
) -> None:
    """Published changes stay well-formed, none comes twice, and the rows say how every rule stands."""
    life = Life(rules, packed=True, model=False)
    for number, event in enumerate(events):
        life.device.most = rooms[number % len(rooms)]
        before, said = life.device.state.open_alerts, len(life.device.changes)
        waiting = {name for name, entry in life.device.state.entries.items() if entry.is_refused}
        life.live([event])
        assert life.device.state.open_alerts <= max(before, life.device.most)
        if event[0] in {"reading", "repeated"}:
            refused = [one.rule_id for one in life.device.changes[said:] if one.status == "REFUSED"]
            assert waiting.isdisjoint(refused)
        life.write()
        assert rebuild("u", "d", life.rows.values()).entries == {
            name: entry for name, entry in life.device.state.entries.items() if entry.has_row
        }
    well_formed(life.device.changes)
