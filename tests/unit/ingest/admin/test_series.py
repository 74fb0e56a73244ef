"""The series that may be asked for; the answers are in `tests/integration/test_web.py`."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.rows import series
from ingest.admin.rows.series import BadSeries
from ingest.admin.rows.series_wanted import Wanted
from tasks.registry import default

TIMES = st.datetimes(timezones=st.just(UTC))


@given(TIMES, TIMES, st.timedeltas(timedelta(seconds=-1), timedelta(days=3000)))
def test_a_series_has_a_bounded_number_of_buckets(begin: datetime, end: datetime, bucket: timedelta) -> None:
    """Whatever range and length are asked for."""
    try:
        series.check(Wanted("temperature", begin, end, bucket, "avg"))
    except BadSeries:
        return
    assert begin < end
    assert (end - begin) / bucket <= series.MOST_BUCKETS


@pytest.mark.parametrize("key", ["time", "user_id", "extra_data", "", "a..b", ".", "a.b.c.d.e.f.g.h.i"])
def test_a_field_that_is_no_number_is_refused_with_those_that_are(key: str) -> None:
    """And with how another field of the payload is asked for."""
    with pytest.raises(BadSeries, match="sequence_id, temperature, battery, or a dotted path"):
        series._value(default(), key)
