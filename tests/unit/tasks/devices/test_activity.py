"""The activity of devices: what a part says, and what several parts say together."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.batch.messages import Message
from tasks.devices.activity import DAY_MS, MOST_MS, Activity, BySource, merged, pack, without
from tasks.domain.declaration import Reading
from tasks.domain.domain import Source
from tasks.rows.validate import Received

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1000
DAY = NOON_MS // DAY_MS

# A reading: its device, its arrival after noon in ms, and its own time.
Sent = tuple[str, int, datetime]


def by_source(*sent: Sent) -> BySource:
    """The readings by their source, with their number as offset."""
    found: BySource = {}
    for number, (device, after_ms, time) in enumerate(sent):
        message = Message(0, number, NOON_MS + after_ms, "", "", 0, b"")
        reading: Reading[Source, Any] = Reading(Source("u", device), time, {}, {}, b"", None)
        found.setdefault(reading.source, []).append(Received(message, reading))
    return found


def activity(*sent: Sent) -> list[Activity]:
    """The activity by these readings, as one part."""
    return merged([pack("telemetry", by_source(*sent))])["telemetry"]


def test_each_device_of_a_part_is_one_line() -> None:
    """Counts, arrivals, and the own time of the reading that came last, whatever its order."""
    late = NOON.replace(minute=5)
    found = activity(("a", 0, NOON), ("b", 1, NOON), ("a", 7, late), ("a", 9, NOON))
    assert found == [
        ("u", "a", DAY, 3, NOON_MS, NOON_MS + 9, NOON),
        ("u", "b", DAY, 1, NOON_MS + 1, NOON_MS + 1, NOON),
    ]
    assert [one.skew_ms for one in found] == [-9, -1]


def test_a_part_that_reaches_into_the_next_day_counts_for_both() -> None:
    """By the arrival in Kafka, not by the device's clock."""
    found = activity(("a", 0, NOON), ("a", 1, NOON), ("a", DAY_MS // 2, NOON), ("b", DAY_MS // 2, NOON))
    assert [(one.device_id, one.day, one.messages) for one in found] == [
        ("a", DAY, 2),
        ("a", DAY + 1, 1),
        ("b", DAY + 1, 1),
    ]


def test_a_part_without_readings_says_nothing() -> None:
    """Nothing is kept in Redis for it."""
    assert pack("telemetry", {}) == b""
    assert merged([]) == {}


def test_domains_are_apart() -> None:
    """Each has its own devices, also with the same names."""
    one = by_source(("a", 0, NOON))
    assert set(merged([pack("telemetry", one), pack("water", one)])) == {"telemetry", "water"}


def test_readings_that_are_deferred_do_not_count() -> None:
    """They join a later batch, and count there; a device with no other is not there at all."""
    part = by_source(("a", 0, NOON), ("b", 1, NOON), ("a", 2, NOON))
    left = without(part, {(0, 1), (0, 2)})
    assert [(one.device_id, one.messages) for one in merged([pack("x", left)])["x"]] == [("a", 1)]
    assert pack("x", without(part, {(0, 0), (0, 1), (0, 2)})) == b""


READINGS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "ns/\N{GREEK SMALL LETTER PSI}"]),
        st.integers(0, 2 * DAY_MS),
        st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
    ),
    max_size=12,
).map(lambda sent: sorted(sent, key=lambda one: one[1]))


def counted(sent: list[Sent]) -> set[Activity]:
    """The same, reading by reading."""
    found: dict[tuple[str, str, int], Activity] = {}
    for device, after_ms, time in sent:
        at_ms = NOON_MS + after_ms
        key = ("u", device, at_ms // DAY_MS)
        old = found.get(key)
        first = at_ms if old is None else old.first_ms
        found[key] = Activity(*key, 1 if old is None else old.messages + 1, first, at_ms, time)
    return set(found.values())


@given(READINGS, st.integers(0, 12))
def test_it_does_not_matter_how_readings_were_parted(sent: list[Sent], at: int) -> None:
    """In one part or in two, however they lie around midnight, and whatever clock the devices have."""
    parts = [by_source(*some) for some in (sent[:at], sent[at:])]
    blobs = [blob for blob in (pack("x", part) for part in parts) if blob]
    assert set(merged(blobs).get("x", [])) == counted(sent)
    assert sum(one.messages for one in merged(blobs).get("x", [])) == len(sent)


@given(READINGS, st.integers(0, 12))
def test_an_older_part_that_comes_later_changes_no_last_reading(sent: list[Sent], at: int) -> None:
    """Batches of different partitions, and deferred messages, end in any order."""
    # Two readings of the same millisecond have no order.
    apart = [(device, after_ms + number, time) for number, (device, after_ms, time) in enumerate(sent)]
    blobs = [blob for blob in (pack("x", by_source(*some)) for some in (apart[at:], apart[:at])) if blob]
    assert set(merged(blobs).get("x", [])) == counted(apart)


def test_the_skew_is_in_whole_milliseconds() -> None:
    """Rounded down, like the arrival."""
    (one,) = activity(("a", 0, NOON + timedelta(microseconds=1500)))
    assert one.skew_ms == 1


def test_an_arrival_that_no_table_takes_is_the_nearest_that_one_does() -> None:
    """Records of other producers have any time; the registry must not stop because of one."""
    (one,) = activity(("a", 2**60, NOON))
    assert (one.first_ms, one.last_ms, one.day) == (MOST_MS, MOST_MS, MOST_MS // DAY_MS)
    (one,) = activity(("a", -NOON_MS - 1, NOON))
    assert (one.first_ms, one.day) == (0, 0)
