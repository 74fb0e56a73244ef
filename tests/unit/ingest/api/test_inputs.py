"""Values of requests."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ingest.api import inputs
from ingest.api.problems import Refused


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
