"""Cursors, by which long lists are read page by page."""

from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from ingest.api import pages, problems
from ingest.api.pages import Cursor
from ingest.api.problems import Refused
from tests.unit.ingest.api.asgi import ask

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=128)


class Place(NamedTuple):
    """A place as routes have it."""

    time: datetime
    user: str
    device: str


@given(st.datetimes(timezones=st.just(UTC)), TEXTS, TEXTS)
def test_a_cursor_holds_what_was_put_in(time: datetime, user: str, device: str) -> None:
    """To the microsecond, whatever the ids are."""
    cursor = pages.cursor_of(time, user, device)
    assert pages.place_of(cursor, Place) == Place(time, user, device)


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda raw: pages.cursor_of(str(raw))))
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    """With a sentence, and never with an error of ours."""
    with pytest.raises(Refused, match="begin without one"):
        pages.place_of(text, Place)


@given(st.integers(0, 6), st.integers(1, 6))
def test_a_page_has_a_next_one_only_if_there_are_more_rows(count: int, limit: int) -> None:
    """The route asks for one row more than the page holds; the cursor is of the last row shown."""
    time = datetime(2026, 3, 2, tzinfo=UTC)
    rows = [{"time": time, "user": "ada", "device": str(number)} for number in range(min(count, limit + 1))]
    shown, following = pages.cut(rows, limit, Place)
    assert shown == rows[:limit]
    assert pages.place_of(following, Place) == (Place(time, "ada", str(limit - 1)) if count > limit else None)


def test_the_cursor_of_the_longest_ids_is_taken_back() -> None:
    """Ids of 128 characters, in whatever script they are; a longer cursor than such is refused."""
    app = FastAPI()
    problems.add_to(app)

    @app.get("/")
    def last(cursor: Cursor = None) -> list[str]:
        place = pages.place_of(cursor, Place)
        return [] if place is None else [place.user, place.device]

    for character in "aü字😀":
        ids = [character * 128, character * 128]
        cursor = pages.cursor_of(datetime(2026, 3, 2, tzinfo=UTC), *ids)
        answer = ask(app, query=urlencode({"cursor": cursor}))
        assert (answer.status, answer.document) == (200, ids)
    assert ask(app, query=f"cursor={'x' * (pages.MOST_CHARACTERS + 1)}").status == 422
