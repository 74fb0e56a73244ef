"""A filter that matches no dead letter says which values there are."""

from datetime import UTC, datetime, timedelta

from ingest.admin.letters.dlq_values import instead, known
from tasks.dead_letters import envelope
from tasks.dead_letters.letter import Filters, Letter, parse_letter


def letter(number: int, error_type: str = "InvalidJson") -> Letter:
    """A letter of user and device `number`."""
    topic = f"users/u{number}/devices/d{number}/telemetry"
    return parse_letter(b"k", envelope.envelope(topic, b"x", error_type, "why"), number)


def test_only_the_values_of_the_filters_in_use_are_named() -> None:
    """The most frequent first."""
    letters = [letter(1), letter(1, "Conflict"), letter(2)]
    assert instead(Filters(error_type="Typo"), letters) == (
        "No open dead letter matches, of 3. Error types: InvalidJson, Conflict."
    )
    assert instead(Filters(user="x", device="y"), letters) == (
        "No open dead letter matches, of 3. Users: u1, u2. Devices: d1, d2."
    )


def test_a_filter_by_time_gets_the_times() -> None:
    """Those of the first and of the last refusal, in the form that the filter takes."""
    one = letter(1)._replace(refused_at=datetime(2026, 5, 1, 12, tzinfo=UTC))
    two = one._replace(refused_at=one.refused_at + timedelta(hours=1))
    assert instead(Filters(until=one.refused_at), [two, one]).endswith(
        "They were refused from 2026-05-01T12:00:00Z to 2026-05-01T13:00:00Z."
    )


def test_many_values_are_not_all_named() -> None:
    """A terminal shows ten, and gets no control characters."""
    said = instead(Filters(user="x"), [letter(number) for number in range(12)])
    assert "u9, and 2 more." in said
    odd = letter(1)._replace(error_type="\x1b[2J")
    assert "\x1b" not in instead(Filters(error_type="x"), [odd])


def test_programs_get_the_values_by_the_name_of_the_filter() -> None:
    """The devices are those of the user that is named, where there is one; a tenant hears of no users."""
    letters = [letter(1), letter(1, "Conflict"), letter(2)]
    assert known(None, Filters(), letters) is None
    assert known(None, Filters(user="x", device="y", error_type="z"), letters) == {
        "user": ["u1", "u2"],
        "device": ["d1", "d2"],
        "error_type": ["InvalidJson", "Conflict"],
    }
    assert known(None, Filters(user="u2", device="y"), letters) == {"user": ["u1", "u2"], "device": ["d2"]}
    at = letters[0].refused_at
    told = known("u1", Filters(user="u1", since=at), letters[:2])
    assert told == {"refused_at": [f"{one.refused_at:%Y-%m-%dT%H:%M:%SZ}" for one in letters[:2]]}
    assert known(None, Filters(device="x"), []) == {"device": []}


def test_without_any_letter_there_is_no_value() -> None:
    """One sentence says so."""
    assert instead(Filters(user="x"), []) == "There is no open dead letter."
