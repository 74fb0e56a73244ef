"""The difference between two rule sets: all of it, and nothing where there is none."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.rulesets.rules_diff import as_lines, differences, summary

HOT = {"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}
VALUES: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(0, 1) | st.text(max_size=2)
RULES = st.lists(
    st.dictionaries(st.sampled_from(["id", "key", "operator", "threshold"]), VALUES, max_size=4) | VALUES,
    max_size=4,
)


def test_rules_that_come_go_and_change_are_told() -> None:
    """A line for each rule or field; the order and fields of null count for nothing."""
    before = [HOT, {**HOT, "id": "old"}, {**HOT, "id": "door", "threshold": True}]
    after = [
        {**HOT, "id": "door", "threshold": 1},
        {**HOT, "id": "new", "severity": None},
        {**HOT, "message": "warm", "for_seconds": 5},
    ]
    found = differences(before, after)
    assert summary(found) == "+1 -1 ~2"
    assert list(as_lines(found)) == [
        "~ temperature",
        '    message: "hot" -> "warm"',
        "    for_seconds: none -> 5",
        '- old  {"id": "old", "key": "temperature", "message": "hot", "operator": ">", "threshold": 80}',
        "~ door",
        "    threshold: true -> 1",
        '+ new  {"id": "new", "key": "temperature", "message": "hot", "operator": ">", "threshold": 80}',
    ]
    assert summary(differences(before, before[::-1])) == "the same"


@given(RULES, RULES)
def test_any_two_sets_can_be_compared(before: list[Any], after: list[Any]) -> None:
    """Also what is not valid; a set and itself are the same, and the two directions name the same rules."""
    assert differences(before, before) == []
    there, back = differences(before, after), differences(after, before)
    assert {one.rule_id for one in there} == {one.rule_id for one in back}
    assert all(one.before is not None or one.after is not None for one in there)
    assert len(list(as_lines(there))) >= len(there)
