"""Cursors and values of requests."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.api import inputs
from ingest.api.problems import Refused

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=128)


@given(st.datetimes(timezones=st.just(UTC)), TEXTS, TEXTS)
def test_a_cursor_holds_what_was_put_in(time: datetime, user: str, device: str) -> None:
    """To the microsecond, whatever the ids are."""
    cursor = inputs.cursor_of(time, user, device)
    assert inputs.values_of(cursor, 3, timed=True) == [time, user, device]


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda raw: inputs.cursor_of(str(raw))))
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    """With a sentence, and never with an error of ours."""
    with pytest.raises(Refused, match="begin without one"):
        inputs.values_of(text, 3, timed=True)


@given(st.text(max_size=40))
def test_a_moment_is_a_time_or_a_sentence(text: str) -> None:
    """In UTC, so that no conversion can go beyond what a date holds."""
    now = datetime(2026, 3, 2, tzinfo=UTC)
    try:
        found = inputs.moment("from", text, now)
    except Refused as error:
        told = error.detail
    else:
        told = ""
        assert found is not None
        assert found.tzinfo is UTC
    assert not told or told.startswith("`from` ")
