"""Looks at readings by their users' rules and the domain's checks, and steps devices through them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

import structlog

from tasks.alerts.alert_room import Rooms
from tasks.alerts.budget import Budget
from tasks.batch import epochs
from tasks.batch.messages import REDELIVERED
from tasks.domain.domain import AnyDomain, Source
from tasks.observe.metrics import worker as metrics
from tasks.rows.validate import Received
from tasks.rules import machine, order
from tasks.rules.change import Change
from tasks.rules.machine import Changes, Observation
from tasks.rules.order import Moment, Newest
from tasks.rules.rule import Alert, RuleSet
from tasks.rules.state import DeviceState, to_us
from tasks.servers import counters
from tasks.servers.redis_client import client

BySource = dict[Source, list[Received]]
# Of each reading, by the `rule_id` of the check.
CheckResults = Sequence[Mapping[str, Alert | None]]

log = structlog.get_logger()


class Checked(NamedTuple):
    """The readings of one source, with the rules that are about it.

    `check_results` has the results of the domain's checks for each reading, and is None if it has no checks.
    `quiet` is how many readings, from the first on, violate nothing at all.
    """

    rules: RuleSet
    readings: list[Received]
    check_results: CheckResults | None
    quiet: int

    def quiet_until(self, number: int) -> int:
        """Where the readings end that violate nothing, of those from this number on; there, if it does."""
        if number < self.quiet:
            return self.quiet
        return _quiet_until(self.rules, self.readings, self.check_results, number)


_NO_CHECK_RESULTS: Mapping[str, Alert | None] = {}


def check_readings(domain: AnyDomain, rules: RuleSet, readings: list[Received]) -> Checked:
    """Looks at the readings of one source, by its rules and the checks of its domain."""
    check_results = None
    if domain.checks:
        check_results = [domain.check_results(r.message.topic, r.reading, _check_failed) for r in readings]
    elif len(readings) == 1:
        # Without the named tuple's own constructor, and a loop: a device of many has one reading in a part.
        quiet = 0 if rules.any_violated(readings[0].reading.payload) else 1
        return tuple.__new__(Checked, (rules, readings, None, quiet))
    return Checked(rules, readings, check_results, _quiet_until(rules, readings, check_results, 0))


def _quiet_until(
    rules: RuleSet, readings: list[Received], check_results: CheckResults | None, number: int
) -> int:
    if check_results is None:
        # A loop, because most sources have one reading, and a generator costs as much as the look itself.
        for _, reading, _ in readings[number:]:
            if rules.any_violated(reading.payload):
                break
            number += 1
        return number
    while number < len(readings):
        if machine.violates(rules, readings[number].reading.payload, check_results[number]):
            break
        number += 1
    return number


class Stepping(NamedTuple):
    """Steps the devices of a part: their checked readings, and the newest readings known before.

    `quiet` collects the newest readings of devices whose state does not change; a changed state has its own.
    `known_again` has the newest readings by own time of devices of which the broker has sent some again.
    """

    domain: AnyDomain
    checked: Mapping[Source, Checked]
    known: Mapping[Source, Newest]
    quiet: dict[Source, Newest]
    budget: Budget
    epoch: int = 0
    rooms: Rooms | None = None
    known_again: Mapping[Source, Newest] = {}

    def passes(self, source: Source) -> bool:
        """Whether a device without a state keeps none, for the most common reason: its only reading violates
        nothing. What `step` would do for it is done then.
        """
        rules, readings, _, quiet = self.checked[source]
        if quiet != 1 or len(readings) != 1 or readings[0].message.replay:
            return False
        if self.budget.begin(source) and rules.judges_readings:
            newest = _pass_over(self.domain, self.known.get(source), readings)
            if newest is not None:
                self.quiet[source] = newest
        return True

    def step(self, before: DeviceState) -> tuple[DeviceState, Changes]:
        """Steps one device through its readings; returns `before` itself if only `newest` changed."""
        # Without the named tuple's own constructor: each device of each batch comes by here.
        source = tuple.__new__(Source, before[:2])
        checked = self.checked[source]
        if not self.budget.begin(source):
            return before, ()
        newest = order.later(before.newest, self.known.get(source))
        if before.entries or before.before or checked.quiet < len(checked.readings):
            return self._judge(source, before, newest, checked)
        # Most readings end here, without becoming observations.
        if checked.rules.judges_readings:
            ahead = order.ahead(before.newest, self.known_again.get(source))
            readings = [
                one
                for one in checked.readings
                if not (one.message.replay and _is_late_again(self.domain, ahead, one))
            ]
            newest = _pass_over(self.domain, newest, readings)
            if newest is not None:
                self.quiet[source] = newest
        return before, ()

    def _judge(
        self, source: Source, before: DeviceState, newest: Newest | None, checked: Checked
    ) -> tuple[DeviceState, Changes]:
        rules, readings, check_results, _ = checked
        state = before._replace(newest=newest)
        ahead = order.ahead(before.newest, self.known_again.get(source))
        changes: list[Change] = []
        room = left = None if self.rooms is None else self.rooms.left(source.user_id)
        number = looked_until = 0
        while number < len(readings):
            if not self.budget.allows(source.user_id):
                self.budget.stopped[source] = number
                break
            if number >= looked_until and not (state.entries or state.before):
                looked_until = checked.quiet_until(number)
                passed = self._pass(state, readings[number:looked_until])
                if passed is not None:
                    state, number = state._replace(newest=passed), looked_until
                    continue
            results = _NO_CHECK_RESULTS if check_results is None else check_results[number]
            reading = observation(self.domain, readings[number], results, self.epoch)
            number += 1
            if reading.redelivered and order.is_late(ahead, reading.moment):
                reading = reading._replace(late=True)
            state, more = machine.step(state, rules, reading, room)
            if more:
                self.budget.spend(source.user_id, more)
                changes += more
                if left is not None:
                    room = left - (state.open_alerts - before.open_alerts)
        if not state.same_but_newest(before):
            self.quiet.pop(source, None)
            self.budget.carry(state)
            return state, tuple(changes)
        if state.newest is not None and rules.judges_readings:
            self.quiet[source] = state.newest
        return before, ()

    def _pass(self, state: DeviceState, readings: list[Received]) -> Newest | None:
        """The newest reading after several that change nothing else; None: the machine must judge them."""
        if not readings:
            return None
        partition = readings[0].message.partition
        if any(one.message.replay or one.message.partition != partition for one in readings):
            return None
        if state.has_judged(partition, epochs.position(self.epoch, readings[0].place)):
            return None
        return _pass_in_order(self.domain, state.newest, readings)


def _is_late_again(domain: AnyDomain, ahead: Newest | None, received: Received) -> bool:
    return received.message.replay == REDELIVERED and order.is_late(ahead, _moment(domain, received))


def _pass_over(domain: AnyDomain, before: Newest | None, readings: list[Received]) -> Newest | None:
    """The newest reading after several that violate nothing: the same as the machine's, at less cost."""
    if not readings:
        return before
    if len(readings) > 1:
        latest = max([received.reading.time for received in readings])
        equal = [received for received in readings if received.reading.time == latest]
    else:
        equal = readings
    message, reading, _ = equal[-1]
    own, arrival = to_us(reading.time), message.timestamp_ms * 1000
    newer = own <= arrival and (before is None or order.follows(before, own, arrival))
    if newer and len(equal) == 1:
        return tuple.__new__(Newest, (own, own - arrival, (_key(domain, equal[0], own),)))
    # If clocks are ahead, the newest reading is the one that came last, not the one with the latest time.
    for received in equal if newer else readings[-order.KEYS :]:
        moment = _moment(domain, received)
        if not order.is_late(before, moment):
            before = order.advanced(before, moment)
    return before


def _pass_in_order(domain: AnyDomain, before: Newest | None, readings: list[Received]) -> Newest | None:
    """The newest reading after several that violate nothing, if the last of them is newer than all before.

    It is exactly the machine's, whatever the others are, as long as none is known again. None says nothing.
    """
    *earlier, last = readings
    message, reading, _ = last
    own, arrival = to_us(reading.time), message.timestamp_ms * 1000
    if own > arrival or (before is not None and not order.follows(before, own, arrival)):
        return None
    for other, one, _ in earlier:
        if one.time >= reading.time or other.timestamp_ms > message.timestamp_ms:
            return None
    return Newest(own, own - arrival, (_key(domain, last, own),))


def observation(
    domain: AnyDomain, received: Received, check_results: Mapping[str, Alert | None], epoch: int = 0
) -> Observation:
    """A reading as the state machine sees it; `epoch` is that of its topic."""
    message, reading, _ = received
    return Observation(
        message.partition,
        epochs.position(epoch, received.place),
        message.timestamp_ms,
        reading.time,
        reading.values.get("sequence_id"),
        reading.payload,
        check_results,
        _key(domain, received, to_us(reading.time)),
        message.replay == REDELIVERED,
    )


def _moment(domain: AnyDomain, received: Received) -> Moment:
    own = to_us(received.reading.time)
    message = received.message
    redelivered = message.replay == REDELIVERED
    return Moment.of(own, message.timestamp_ms * 1000, _key(domain, received, own), redelivered=redelivered)


def _key(domain: AnyDomain, received: Received, own: int) -> int:
    """The row's key as a number below 2^63 that is the same in every process."""
    message, reading, _ = received
    values = reading.values
    names = domain.key_fields
    if len(names) == 1:
        # As the list of one is written, at less cost.
        text = f"{message.topic}[{values[names[0]]!r}]"
    else:
        text = message.topic + repr([values[name] for name in names])
    return (own << 11 ^ crc32(text.encode(errors="surrogateescape"))) & 0x7FFF_FFFF_FFFF_FFFF


def _check_failed(rule_id: str, error: Exception) -> None:
    log.error("check_failed", rule_id=rule_id, exc_info=error)
    counters.add(client(), {"checks_failed": 1})
    metrics.CHECKS_FAILED.add(1, rule_id)
