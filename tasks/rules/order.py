"""The law of time: which readings the rules judge, and what counts as the time of a reading.

- Readings that come in order are judged, however old they are.
- A time ahead of the arrival, which is the timestamp of the Kafka record, counts as the arrival.
- A reading older than the newest judged one, or with a key that was judged, is late: no rule judges it.
  Equal times are judged, in Kafka order.
- If nothing newer has come for ten minutes, the clock of the device was set back, and its times count.
- What the MQTT broker delivers again is late if its own time is before that of the newest judged one, even
  after these ten minutes, and even if the gateway's clock was behind. A gateway that ends may have handed
  over more than it has acknowledged.
- If own time minus arrival changes by more than a day, the clock was set, and `for_seconds` starts again.
"""

from typing import NamedTuple

# How long after the newest reading an older one counts as late rather than as from a clock that was set back.
PATIENCE_US = 600 * 1_000_000
JUMP_US = 86_400 * 1_000_000
# How many keys are remembered: of readings that could come again and not look older.
KEYS = 8


class Moment(NamedTuple):
    """When a reading was measured and when it arrived, and its key as a number; times in µs."""

    time: int  # as judged: its own, or the arrival
    skew: int  # own time minus arrival
    key: int | None = None
    redelivered: bool = False

    @classmethod
    def of(cls, own: int, arrival: int, key: int | None = None, *, redelivered: bool = False) -> "Moment":
        """The moment of a reading with a time of its own."""
        return cls(min(own, arrival), own - arrival, key, redelivered)

    @property
    def own(self) -> int:
        """The time that the device gave it."""
        return self.time + max(self.skew, 0)

    @property
    def arrival(self) -> int:
        """The timestamp of the Kafka record."""
        return self.time - min(self.skew, 0)


class Newest(NamedTuple):
    """The newest reading of a device that was judged."""

    time: int
    skew: int
    keys: tuple[int, ...] = ()

    @property
    def arrival(self) -> int:
        """When it arrived."""
        return self.time - min(self.skew, 0)

    @property
    def own(self) -> int:
        """The time that the device gave it, unless that is wrong by more than a day."""
        return self.time + self.skew if 0 < self.skew <= JUMP_US else self.time


def is_late(newest: Newest | None, moment: Moment) -> bool:
    """Whether a reading is older than the newest one judged, or has a key that was judged."""
    if newest is None:
        return False
    if moment.key in newest.keys or (moment.redelivered and moment.own < newest.own):
        return True
    # A time not behind its arrival is older only where a batch runs again, or a gateway's clock is wrong.
    if moment.time >= newest.time or (moment.skew >= 0 and moment.own >= newest.own):
        return False
    # Repeated records have earlier arrivals; only a gateway's wrong clock is ahead by a day.
    return -JUMP_US <= moment.arrival - newest.arrival <= PATIENCE_US


def follows(newest: Newest, own: int, arrival: int) -> bool:
    """Whether a reading came after the newest one judged and is newer by its own time; both in µs."""
    # Without the properties: the reading of each quiet device of each batch comes by here.
    time, skew, _ = newest
    return own > (time + skew if 0 < skew <= JUMP_US else time) and arrival >= (
        time - skew if skew < 0 else time
    )


def jumped(newest: Newest | None, moment: Moment) -> bool:
    """Whether the device's clock was set by more than a day."""
    return newest is not None and abs(moment.skew - newest.skew) > JUMP_US


def advanced(newest: Newest | None, moment: Moment) -> Newest:
    """The newest reading once this one, which is not late, was judged."""
    own = () if moment.key is None else (moment.key,)
    if newest is not None and 0 < newest.arrival - moment.arrival <= JUMP_US:
        if not newest.own < moment.own <= newest.arrival + JUMP_US:
            return newest  # a record is repeated
        # The gateway's clock is behind: arrivals do not go back, but the device has come further.
        time, skew, _, _ = Moment.of(moment.own, newest.arrival)
        return Newest(time, skew, (*newest.keys, *own)[-KEYS:])
    if newest is None or (moment.skew <= 0 and moment.time > newest.time):
        # All earlier readings are older, so their keys are not needed.
        return Newest(moment.time, moment.skew, own)
    return Newest(moment.time, moment.skew, (*newest.keys, *own)[-KEYS:])


def later(one: Newest | None, other: Newest | None) -> Newest | None:
    """Which of two memories of a device's newest reading is the later one.

    Neither arrivals nor, at one arrival, judged times go back. At one time more keys have come since.
    """
    if one is None or other is None:
        return one or other
    if (one.arrival, one.time) != (other.arrival, other.time):
        return max(one, other, key=lambda newest: (newest.arrival, newest.time))
    if set(one.keys[-1:]) <= set(other.keys):
        return other
    # Where more readings came in between than keys are remembered, all of the later one's are there.
    return other if len(other.keys) > len(one.keys) else one


def ahead(one: Newest | None, other: Newest | None) -> Newest | None:
    """Which of two memories has the later own time.

    Messages that the broker redelivers are compared with it: the gateway that had them before may have had a
    wrong clock, so that arrivals do not say which is later.
    """
    if one is None or other is None:
        return one or other
    return other if other.own > one.own else one
