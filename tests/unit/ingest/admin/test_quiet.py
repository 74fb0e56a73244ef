"""`sluice quiet add`: what its options mean, and one sentence for each that cannot be."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingest.admin.alerting.quiet import when
from ingest.admin.errors import OperatorError

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def asked(**given: str) -> dict[str, Any]:
    """The columns of a window, without those that are empty."""
    options = dict.fromkeys(("begin", "end", "length", "days", "zone")) | given
    return {name: value for name, value in when(**options, now=NOW).items() if value is not None}


def test_times_of_day_make_a_recurring_window() -> None:
    """On all days, where none are named."""
    night = asked(begin="22:00", end="6:00", zone="Europe/Berlin", days="fri,sat")
    assert night == {
        "time_zone": "Europe/Berlin",
        "weekdays": ["fri", "sat"],
        "from_time": "22:00",
        "until_time": "06:00",
    }
    assert len(asked(begin="00:00", end="24:00", zone="UTC")["weekdays"]) == 7


def test_anything_else_makes_a_window_that_comes_once() -> None:
    """From now, or from a time of the zone, else of UTC, to a time or for a span."""
    assert asked(length="2h") == {"starts_at": NOW, "ends_at": NOW + timedelta(hours=2)}
    assert asked(begin="2026-12-24T18:00", end="2026-12-27T08:00", zone="Europe/Berlin") == {
        "starts_at": datetime(2026, 12, 24, 17, tzinfo=UTC),
        "ends_at": datetime(2026, 12, 27, 7, tzinfo=UTC),
    }
    assert asked(end="2026-11-29T14:00+01:00")["ends_at"] == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"begin": "22:00", "end": "06:00"}, "need their time zone: --zone, such as Europe/Berlin"),
        ({"begin": "22:00", "end": "06:00", "zone": "Europe/Berlim"}, "did you mean Europe/Berlin"),
        ({"begin": "22:00", "end": "06:00", "zone": "new york"}, "did you mean America/New_York"),
        ({"begin": "22:00", "end": "06:00", "zone": "??"}, "named as in Europe/Berlin"),
        ({"begin": "22:00", "end": "06:00", "zone": "UTC", "days": ""}, "There is no weekday; give some"),
        ({"begin": "22:00", "end": "06:00", "zone": "UTC", "days": "mon-fry"}, "There is no weekday fry"),
        ({"begin": "22:00", "end": "22:00", "zone": "UTC"}, "starts and ends at different times"),
        ({"begin": "24:00", "end": "06:00", "zone": "UTC"}, "starts and ends at different times"),
        ({"begin": "22:60", "end": "06:00", "zone": "UTC"}, "22:60 is not a time of day"),
        ({"begin": "22:00", "zone": "UTC"}, "ends at one: --until 06:00"),
        ({"begin": "22:00", "length": "2h", "zone": "UTC"}, "ends at one: --until 06:00"),
        ({"begin": "22:00", "end": "tomorrow", "zone": "UTC"}, "ends at one: --until 06:00"),
        ({"days": "mon", "length": "2h"}, "With --days a window needs times of day"),
        ({}, "needs its end"),
        ({"length": "2h", "end": "2027-01-01"}, "needs its end"),
        ({"length": "long"}, "--for must be a span"),
        ({"length": "999999w"}, "--for must be a span"),
        ({"begin": "tomorrow", "length": "2h"}, "--from must be a time such as"),
        ({"end": "06:00"}, "--until must be a time such as"),
        ({"begin": "2026-12-02T00:00", "end": "2026-12-01T00:00"}, "before it starts"),
        ({"begin": "2026-11-01T00:00", "end": "2026-11-02T00:00"}, "is over already"),
        ({"length": "53w"}, "366 days at most"),
        ({"end": "2026-12-01T00:00", "zone": "Mars/Base"}, "There is no time zone Mars/Base"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(given: dict[str, str], said: str) -> None:
    """It says what to give instead."""
    with pytest.raises(OperatorError, match=said.replace("?", r"\?").replace("+", r"\+")):
        asked(**given)
