"""Sessions of the console: nobody makes one up, and none lasts for ever."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.console import sessions
from ingest.console.sessions import SECONDS, Seals, Session

SEALS = Seals("operator-of-the-tests")
SESSIONS = st.builds(
    Session,
    id=st.text(),
    by=st.sampled_from(["operator", "token", "account"]),
    user_id=st.none() | st.text(),
    proof=st.text(),
    person=st.text(),
    until=st.integers(1, 2**40),
)


@given(SESSIONS)
def test_a_cookie_is_the_session_until_it_is_over(session: Session) -> None:
    """As it was, to the second before its end, in characters that a cookie may have."""
    cookie = SEALS.cookie(session)
    assert set(cookie) <= set(string.ascii_letters + string.digits + "-_.")
    assert SEALS.session(cookie, session.until - 1) == session
    assert SEALS.session(cookie, session.until) is None


@given(SESSIONS, st.data())
def test_a_changed_cookie_is_none(session: Session, data: st.DataObject) -> None:
    """Another character anywhere, of the session or of its seal, and there is no session."""
    cookie = SEALS.cookie(session)
    place = data.draw(st.integers(0, len(cookie) - 1))
    other = data.draw(st.characters().filter(lambda one: one != cookie[place]))
    changed = cookie[:place] + other + cookie[place + 1 :]
    # The last character of a seal has two bits that say nothing; compared as text, they do.
    assert SEALS.session(changed, 0) is None


@given(st.text())
def test_what_is_no_cookie_is_none(text: str) -> None:
    """Whatever a browser sends."""
    assert SEALS.session(text) is None


def test_a_seal_is_for_one_purpose_and_one_token_of_the_operator() -> None:
    """A page's token is not a session; another process with the same token takes it, others do not."""
    cookie = SEALS.cookie(sessions.begin("operator", None))
    text, _, seal = cookie.partition(".")
    assert not SEALS.holds("form", text, seal)
    assert SEALS.session(f"{text}.{SEALS.seal('form', text)}") is None
    assert Seals("operator-of-the-tests").session(cookie) is not None
    for other in (Seals("another operator"), Seals(None), Seals(None)):
        assert other.session(cookie) is None
        assert other.session(other.cookie(sessions.begin("token", "ada", "t1"))) is not None


def test_a_new_session_lasts_half_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no two are the same."""
    monkeypatch.setattr("ingest.console.sessions.time.time", lambda: 1000.5)
    one, other = sessions.begin("operator", None), sessions.begin("operator", None)
    assert one.until == 1000 + SECONDS
    assert one.id != other.id
