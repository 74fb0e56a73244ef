"""The state of one device between its readings, and its compact form.

Only rules that are not in order are remembered in full: a device whose rules were never violated does not
have a state (`pack` returns no bytes), and one whose alerts are over keeps a few bytes, its *traces*: the
positions up to which it was judged and the newest reading, so that repeated readings change nothing. Traces
may be forgotten once those readings can no longer be repeated.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import msgpack

from tasks.rules.condition import Before
from tasks.rules.flips import Flips
from tasks.rules.model import Scalar, is_for_everyone
from tasks.rules.order import Newest
from tasks.rules.rule import Facts

VERSION = 4
# A state that an earlier version can hold is written in its form, so that its workers continue during an
# upgrade: 3 has conditions, 4 has flips, too.
PLAIN_VERSION = 2
CONDITIONS_VERSION = 3
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Status(StrEnum):
    """The status of one rule for one device."""

    OK = "OK"
    PENDING = "PENDING"  # violated, but not yet for as long as the rule demands; or refused
    ACTIVE = "ACTIVE"
    SNOOZED = "SNOOZED"  # judged without notices until the snooze ends
    DISABLED = "DISABLED"  # not judged
    FLAPPING = "FLAPPING"  # an open alert that has changed too often; judged without notices until it is calm


_STATUSES = tuple(Status)
# Fields of `Facts`, and of an entry after its value, that the version before has.
_PLAIN_FACTS, _PLAIN_REST = 5, 8
_ALERTED = (Status.ACTIVE, Status.SNOOZED, Status.FLAPPING)


class UnknownState(ValueError):
    """The bytes are not a packed state of this version; `version` is None if no version can read them."""

    def __init__(self, reason: str, version: int | None = None) -> None:
        super().__init__(reason)
        self.version = version


class Position(NamedTuple):
    """The place of a record in Kafka."""

    partition: int
    offset: int


class Acknowledged(NamedTuple):
    """A user has seen an open alert: when (ms), who, and what others should know."""

    at_ms: int
    by: str
    note: str | None


class RuleState(NamedTuple):
    """One rule of one device that is not in order, or had a command. Times are in µs unless marked as ms.

    While ACTIVE, FLAPPING or SNOOZED, `alert_id` names the open alert. A snoozed rule without one returned to
    order during the snooze, and may be violated again without an announcement. While DISABLED, `alert_id`
    names the change that disabled the rule; while PENDING, an alert that was refused because the user had too
    many. While FLAPPING, the violation is the present or the latest one.
    """

    status: Status
    facts: Facts  # of the rule that judged last
    alert_id: str | None = None
    first_seen: int | None = None  # when the present violation began
    last_seen: int | None = None
    violations: int = 0  # readings that violated the rule since then
    value: Scalar | None = None  # of the last of them
    sequence_id: int | None = None  # likewise
    snoozed_until: int | None = None  # ms; stays after its end until the alert is announced again
    command_at: int | None = None  # ms, of the last command executed
    command_id: str | None = None
    values: Mapping[str, Scalar] | None = None  # like `value`, of a rule that compares several
    acknowledged: Acknowledged | None = None  # of the open alert
    flips: Flips | None = None  # of a rule with `flapping`

    @property
    def is_open(self) -> bool:
        """Whether there is an announced alert that is not over."""
        return self.alert_id is not None and self.status in _ALERTED

    @property
    def is_refused(self) -> bool:
        """Whether the rule lacks an alert only because its user had too many."""
        return self.alert_id is not None and self.status is Status.PENDING

    def is_snoozed(self, now_ms: int) -> bool:
        """Whether the rule is snoozed at this time."""
        return (
            self.status is Status.SNOOZED and self.snoozed_until is not None and now_ms < self.snoozed_until
        )

    @property
    def is_plain(self) -> bool:
        """Whether the plain version can hold it."""
        extras = (self.facts.digest, self.values, self.acknowledged, self.flips)
        return all(one is None for one in extras)

    @property
    def has_row(self) -> bool:
        """Whether `active_alerts` has it: of a rule in order, only if its alert has changed lately."""
        return self.status is not Status.OK or self.flips is not None

    def in_order(self) -> "RuleState":
        """The rule after its violation: only the commands are remembered."""
        return RuleState(Status.OK, self.facts, command_at=self.command_at, command_id=self.command_id)


def counted(entries: Mapping[str, RuleState]) -> int:
    """How many of these have an open alert that counts for the user."""
    return sum(entry.is_open and not is_for_everyone(rule_id) for rule_id, entry in entries.items())


class DeviceState(NamedTuple):
    """One device. Values, never changed in place; equal states are equal, packed too."""

    user_id: str
    device_id: str
    entries: Mapping[str, RuleState] = {}  # by rule_id
    positions: tuple[Position, ...] = ()  # up to which it was judged, one per partition, sorted
    newest: Newest | None = None  # of the readings judged
    number: int = 0  # of changes so far
    before: Mapping[str, Before] = {}  # values to compare with, by key, as far as rules need them

    @property
    def is_open(self) -> bool:
        """Whether any rule is not in order, or has changed lately and may flap; if not, only traces are left.

        The clock ends both by the newest reading, so it is written with each.
        """
        return any(entry.has_row for entry in self.entries.values())

    @property
    def open_alerts(self) -> int:
        """How many of its rules have an open alert that counts for the user: not those of the operator's."""
        return counted(self.entries)

    def has_judged(self, partition: int, offset: int) -> bool:
        """Whether the record at this position, or a later one of its partition, was judged before."""
        return any(known.partition == partition and offset <= known.offset for known in self.positions)

    @property
    def is_blank(self) -> bool:
        """Whether the state need not be kept: the newest reading alone is remembered elsewhere."""
        return not (self.entries or self.positions or self.number or self.before)

    def same_but_newest(self, other: "DeviceState") -> bool:
        """Whether the two differ in the newest reading at most."""
        return self._replace(newest=other.newest) == other

    def pack(self) -> bytes:
        """The state in bytes, always the same for the same state; empty if there is nothing to remember."""
        if self.is_blank:
            return b""
        plain = not self.before and all(entry.is_plain for entry in self.entries.values())
        entries = [_pack_entry(name, entry, plain=plain) for name, entry in sorted(self.entries.items())]
        parts: list[Any] = [self.number, self.newest, self.positions, entries]
        if not plain:
            parts.append(
                [[key, _pack_scalar(one.value), *one[1:]] for key, one in sorted(self.before.items())]
            )
        packed: bytes = msgpack.packb(parts)
        flips = any(entry.flips is not None for entry in self.entries.values())
        version = PLAIN_VERSION if plain else VERSION if flips else CONDITIONS_VERSION
        return bytes([version]) + packed

    @classmethod
    def unpack(cls, user_id: str, device_id: str, packed: bytes | None) -> "DeviceState":
        """The state that was packed; without bytes, that of an unknown device.

        Raises `UnknownState`.
        """
        if not packed:
            # Without the constructor, because most devices of most batches have no state.
            return tuple.__new__(cls, (user_id, device_id, *_NOTHING_KNOWN))
        if packed[0] not in {1, PLAIN_VERSION, CONDITIONS_VERSION, VERSION}:
            raise UnknownState(f"the state has version {packed[0]}, not {VERSION}", packed[0])
        try:
            number, newest, positions, entries, *more = msgpack.unpackb(packed[1:])
            (before,) = more if packed[0] >= CONDITIONS_VERSION else ([],)
            return cls(
                user_id,
                device_id,
                {entry[0]: _unpack_entry(entry) for entry in entries},
                tuple(Position(*position) for position in positions),
                _unpack_newest(newest),
                number,
                {key: Before(_unpack_scalar(value), *times) for key, value, *times in before},
            )
        except (ValueError, TypeError, AttributeError, IndexError, msgpack.UnpackException) as error:
            raise UnknownState(f"the state cannot be read: {error}") from error


_NOTHING_KNOWN = DeviceState("", "")[2:]


def advanced(positions: tuple[Position, ...], position: Position) -> tuple[Position, ...]:
    """The positions, with this one in place of an older one of its partition."""
    if len(positions) == 1 and positions[0].partition == position.partition:
        return (max(positions[0], position),)
    furthest = dict(positions)
    furthest[position.partition] = max(position.offset, furthest.get(position.partition, position.offset))
    return tuple(Position(*item) for item in sorted(furthest.items()))


def to_us(time: datetime) -> int:
    """A time as microseconds since 1970."""
    return (time - EPOCH) // MICROSECOND


def from_us(time: int) -> datetime:
    """A time from microseconds since 1970."""
    return EPOCH + time * MICROSECOND


def _pack_scalar(value: Scalar | None) -> Scalar | list[str] | None:
    # JSON has integers of any size, msgpack up to 64 bits; the version before had no text.
    if isinstance(value, str):
        return [value]
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def _unpack_scalar(packed: Scalar | list[str] | None) -> Any:
    if isinstance(packed, list):
        return packed[0]
    return int(packed) if isinstance(packed, str) else packed


def _unpack_newest(packed: list[Any] | int | None) -> Newest | None:
    if packed is None:
        return None
    # Version 1 has the time alone.
    if isinstance(packed, int):
        return Newest(packed, 0)
    time, skew, keys = packed
    return Newest(time, skew, tuple(keys))


def _pack_entry(rule_id: str, entry: RuleState, *, plain: bool) -> list[Any]:
    facts = entry.facts[:_PLAIN_FACTS] if plain else entry.facts
    value, status = _pack_scalar(entry.value), _STATUSES.index(entry.status)
    packed: list[Any] = [rule_id, status, facts, value, *entry[2:6], *entry[7:11]]
    if not plain:
        values = entry.values
        packed.append(values and {name: _pack_scalar(one) for name, one in sorted(values.items())})
        packed.append(entry.acknowledged)
        packed += [] if entry.flips is None else [entry.flips]
    return packed


def _unpack_entry(packed: list[Any]) -> RuleState:
    _, status, facts, value, *rest = packed
    known = [_STATUSES[status], Facts(*facts), *rest[:4], _unpack_scalar(value), *rest[4:8]]
    if len(rest) == _PLAIN_REST:
        return RuleState._make([*known, None, None, None])
    values, acknowledged, *more = rest[_PLAIN_REST:]
    values = values and {name: _unpack_scalar(one) for name, one in values.items()}
    flips = Flips(tuple(more[0][0]), more[0][1]) if more else None
    return RuleState._make([*known, values, acknowledged and Acknowledged(*acknowledged), flips])
