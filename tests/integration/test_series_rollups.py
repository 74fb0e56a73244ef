"""A series by rollups is the series of the rows."""

import random
from datetime import UTC, datetime, timedelta
from typing import get_args

from ingest.admin.rows import series, series_rollups
from ingest.admin.rows.series_wanted import ORIGIN, Aggregate, Wanted
from tasks.registry import default
from tasks.rollups import make
from tests.integration.rolled import Database, rolled, row, some, store

__all__ = ["rolled"]

EVERYTHING = 2**31 - 1
DAYS = timedelta(days=1)
DAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=20)


def test_a_series_by_rollups_is_the_series_of_the_rows(rolled: Database) -> None:
    """For each aggregate and whatever buckets and range; also where some hours are not rolled up yet."""
    chance = random.Random(11)
    begin = DAY - 3 * DAYS
    store(rolled, some(chance, 900, begin, 24 * 8))
    assert make.run(60, EVERYTHING)
    # Late rows, whose hours wait, and so do their days.
    store(rolled, some(chance, 40, begin + DAYS, 30, first=900))
    compared = rolled_up = 0
    for number in range(60):
        key = chance.choice(["temperature", "battery"])
        aggregate = chance.choice(get_args(Aggregate))
        bucket = timedelta(hours=chance.choice([1, 2, 6, 24, 48, 168]))
        since = begin + timedelta(minutes=chance.randrange(-600, 24 * 60 * 4))
        wanted = Wanted(
            key, since, since + timedelta(minutes=chance.randrange(1, 60 * 24 * 9)), bucket, aggregate
        )
        asked = (rolled, default(), f"u{number % 2}", chance.choice(["a", "b"]), wanted)
        by_rows, by_rollups = series.from_rows(*asked), series_rollups.read(*asked)
        assert (by_rollups is None) == (aggregate == "first" or _less_than_one(wanted)), wanted
        assert series.read(*asked) == by_rows, wanted
        compared += bool(by_rows)
        rolled_up += bool(by_rollups)
    assert compared > 30
    assert rolled_up > 30


def _less_than_one(wanted: Wanted) -> bool:
    """Whether the range has no whole hour, or no whole day where the buckets are days."""
    step = timedelta(hours=1) if wanted.bucket % DAYS else DAYS
    first = -(-(wanted.begin - ORIGIN) // step)
    return first >= (wanted.end - ORIGIN) // step


def test_a_series_reads_rollups_only_where_they_are(rolled: Database) -> None:
    """Not while hours are not made, nor after they were removed; also where the rows are gone."""
    hours = 24 * 4
    store(rolled, [row(2 * n, DAY + timedelta(hours=n), "a", 0.25 * n, None) for n in range(hours)])
    wanted = Wanted("temperature", DAY, DAY + 4 * DAYS, timedelta(hours=2), "sum")
    daily = wanted._replace(bucket=DAYS)

    def made(one: Wanted) -> bool:
        return series_rollups.read(rolled, default(), "u0", "a", one) is not None

    assert not made(wanted)
    assert make.run(60, EVERYTHING)
    assert (made(wanted), made(daily)) == (True, True)
    assert not made(wanted._replace(key="sequence_id"))
    assert not made(wanted._replace(bucket=timedelta(minutes=90)))
    by_rows = series.from_rows(rolled, default(), "u0", "a", daily)
    rolled.execute(
        "INSERT INTO retention (relation, time_column, days, gone_before)"
        " VALUES ('rollups_hourly', 'hour', 9, %s)"
        " ON CONFLICT (relation) DO UPDATE SET gone_before = excluded.gone_before",
        [int(DAY.timestamp()) // 3600 + 1],
    )
    assert (made(wanted), made(daily)) == (False, True)
    rolled.execute("TRUNCATE raw_telemetry")
    assert series.read(rolled, default(), "u0", "a", daily) == by_rows
