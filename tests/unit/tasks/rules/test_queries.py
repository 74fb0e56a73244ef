"""Queries are refused with every fault, and their pages hold everything once and are small."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.rules.answers import Asked
from tasks.rules.parsing import MAX_DOCUMENT_BYTES
from tasks.rules.queries import (
    MAX_QUERY_BYTES,
    MOST_AT_ONCE,
    PAGE_BYTES,
    AlertsQuery,
    InvalidQuery,
    RulesQuery,
    alerts_page,
    id_of,
    parse_query,
    rules_page,
)

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["id", "limit", "after", "device_id", "silenced", "colour"])
SIZES = st.lists(st.integers(0, PAGE_BYTES * 2), max_size=12)


def faults(asked: Asked, document: bytes) -> dict[str, str]:
    """The faults of a document, by path."""
    with pytest.raises(InvalidQuery) as raised:
        parse_query(asked, document)
    return {fault["path"]: fault["message"] for fault in raised.value.errors}


@pytest.mark.parametrize("document", [b"", b"{}", b'{"id": null}'])
def test_an_empty_query_asks_for_all(document: bytes) -> None:
    """So a button that publishes nothing is enough."""
    assert parse_query("rules", document) == RulesQuery()
    assert parse_query("alerts", document) == AlertsQuery()


def test_every_fault_is_named_at_once() -> None:
    """With what to write instead, and for a misspelt field the nearest one."""
    document = {"id": 5, "limit": 101, "after": ["d", 1], "device": "d", "silenced": 1}
    found = faults("alerts", json.dumps(document).encode())
    assert found == {
        "id": "must be a string of 1 to 128 characters, got the number 5",
        "limit": "must be a whole number from 1 to 100, got the number 101",
        "after": "must be the `next` of the answer before, got the number 1",
        "silenced": "must be true or false, got the number 1",
        "device": "is not a field of this query; did you mean `device_id`?",
    }
    assert set(faults("rules", b'{"device_id": "d", "after": -1}')) == {"device_id", "after"}
    for nonsense in (b"[]", b"5", b"{", b"\xff", b"[" * 4000, b" " * (MAX_QUERY_BYTES + 1)):
        assert set(faults("rules", nonsense)) == {"query"}


@given(st.dictionaries(FIELDS | st.text(), ANY, max_size=4) | ANY, st.sampled_from(["rules", "alerts"]))
def test_any_document_is_a_query_or_is_refused(document: Any, asked: Asked) -> None:
    """With a sentence that can be published; and its id is found whenever it has a valid one."""
    written = json.dumps(document).encode()
    try:
        query = parse_query(asked, written)
    except InvalidQuery as error:
        json.dumps(error.errors[0]).encode()
    else:
        assert id_of(written) == query.id


@given(st.binary(max_size=200))
def test_the_id_of_anything_is_looked_for(document: bytes) -> None:
    """Without an error."""
    found = id_of(document)
    assert found is None or 1 <= len(found) <= 128


@given(SIZES, SIZES, st.integers(1, 5))
def test_pages_of_rules_hold_each_rule_once(sizes: list[int], others: list[int], limit: int) -> None:
    """In their order, the user's own before the operator's, each page within its size or with a single rule;
    the last one says nothing of more.
    """
    rules = [{"id": f"r{number}", "message": "x" * size} for number, size in enumerate(sizes)]
    operators = [{"id": f"operator:r{number}", "message": "x" * size} for number, size in enumerate(others)]
    told: list[Any] = []
    told_of_operator: list[Any] = []
    after = 0
    while True:
        answer = rules_page(RulesQuery(after=after, limit=limit), "u", rules, operators)
        own, of_operator = answer["rules"], answer.get("operator_rules", [])
        assert isinstance(own, list)
        assert ("operator_rules" in answer) == bool(operators)
        assert answer["total"] == len(rules)
        page = [*own, *of_operator]
        assert len(page) <= limit
        assert len(page) <= 1 or len(json.dumps(page, separators=(",", ":"))) <= PAGE_BYTES + 2
        told += own
        told_of_operator += of_operator
        if "next" not in answer:
            break
        assert f'{{"after": {answer["next"]}}} to users/u/rules/get' in answer["hint"]
        after = answer["next"]
    assert told == rules
    assert told_of_operator == operators


@given(SIZES, st.integers(1, 5))
def test_pages_of_alerts_hold_each_alert_once(sizes: list[int], limit: int) -> None:
    """Each goes on behind the last one that was told."""
    alerts = [
        {"device_id": f"d{number:02}", "rule_id": "r", "message": "x" * size}
        for number, size in enumerate(sizes)
    ]
    told: list[Any] = []
    after = ["", ""]
    while True:
        behind = [one for one in alerts if [one["device_id"], one["rule_id"]] > after]
        answer = alerts_page(AlertsQuery(limit=limit), "u", behind[: limit + 1])
        told += answer["alerts"]
        if "next" not in answer:
            break
        after = answer["next"]
        assert parse_query("alerts", json.dumps({"after": after}).encode())
    assert told == alerts


def test_a_rule_that_is_too_large_for_an_answer_is_named() -> None:
    """Only SQL can write one; the others follow."""
    rules = [{"id": "huge", "message": "x" * MAX_DOCUMENT_BYTES}, {"id": "small"}]
    page = rules_page(RulesQuery(limit=MOST_AT_ONCE), "u", rules)["rules"]
    assert isinstance(page, list)
    assert page[0]["id"] == "huge"
    assert "too many for an answer" in page[0]["message"]
    assert page[1] == {"id": "small"}
