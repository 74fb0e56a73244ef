"""What `sluice verify` makes of a record that holds several readings, or none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.letters.verify import Balance, _add, _Fate
from tasks.batch.messages import Message
from tasks.domain.payload import Refused
from tasks.telemetry import DOMAIN

MESSAGE = Message(0, 7, 0, "users/u/devices/d/telemetry", "", 0, b"{}")
REFUSED = Refused("InvalidField", "wrong")
LACKING = [((), "no row and no dead letter")]
OUTCOMES = ("rows", "dead_lettered", "expired", "missing", "ignored")


def balance_of(fate: _Fate, *, has_letter: bool) -> Balance:
    """The balance of one record."""
    balance = Balance(received=1)
    _add(balance, DOMAIN, fate, has_letter=has_letter)
    return balance


@pytest.mark.parametrize(
    ("fate", "has_letter", "outcome", "readings"),
    [
        ({"stored": 2}, False, "rows", 2),
        ({"stored": 2, "refused": REFUSED, "wrong": 3}, True, "dead_lettered", 5),
        ({"stored": 2, "refused": REFUSED, "wrong": 3}, False, "missing", 5),
        ({"refused": REFUSED}, True, "dead_lettered", 1),
        ({"stored": 1, "lacking": LACKING}, False, "missing", 2),
        ({"stored": 1, "lacking": LACKING}, True, "dead_lettered", 2),
        ({"expired": 1}, False, "expired", 1),
        ({"stored": 1, "expired": 1}, False, "rows", 2),
        ({}, False, "ignored", 0),
    ],
)
def test_the_outcome_of_a_record(fate: dict[str, Any], has_letter: bool, outcome: str, readings: int) -> None:
    """Its letter is about all of its readings that are not rows; without one, a reading is missing."""
    balance = balance_of(_Fate(MESSAGE, **fate), has_letter=has_letter)
    assert [name for name in OUTCOMES if getattr(balance, name)] == [outcome]
    assert balance.readings == readings
    assert balance.partly == (outcome == "dead_lettered" and "stored" in fate)


@given(
    stored=st.integers(0, 2),
    expired=st.integers(0, 2),
    lacking=st.integers(0, 2),
    refused=st.sampled_from([None, REFUSED]),
    has_letter=st.booleans(),
)
def test_each_record_has_one_outcome(
    stored: int, expired: int, lacking: int, refused: Refused | None, has_letter: bool
) -> None:
    """So the outcomes are as many as the records."""
    fate = _Fate(MESSAGE, refused, 1, stored, expired, LACKING * lacking)
    balance = balance_of(fate, has_letter=has_letter)
    assert sum(getattr(balance, name) for name in OUTCOMES) == balance.received
    assert len(balance.named) == balance.missing
