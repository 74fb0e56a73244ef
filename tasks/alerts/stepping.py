"""Looks at readings by their users' rules and the domain's checks, and steps devices through them."""

from collections.abc import Mapping
from typing import NamedTuple
from zlib import crc32

import structlog

from tasks.alerts.budget import Budget
from tasks.alerts.open_alerts import Rooms
from tasks.batch import epochs
from tasks.batch.messages import REDELIVERED
from tasks.domain.domain import AnyDomain, Source
from tasks.domain.placement import for_device
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

log = structlog.get_logger()


class CheckedReading(NamedTuple):
    """A reading with the results of the checks, and whether it violates anything at all."""

    received: Received
    check_results: Mapping[str, Alert | None]
    violates: bool


_NO_CHECK_RESULTS: Mapping[str, Alert | None] = {}


def check_readings(domain: AnyDomain, rules: RuleSet, readings: list[Received]) -> list[CheckedReading]:
    """Looks at the readings of one source, by its rules and the checks of its domain."""
    checked: list[CheckedReading] = []
    for received in readings:
        message, reading, _ = received
        check_results = (
            domain.check_results(message.topic, reading, _check_failed)
            if domain.checks
            else _NO_CHECK_RESULTS
        )
        checked.append(
            CheckedReading(received, check_results, machine.violates(rules, reading.payload, check_results))
        )
    return checked


class Stepping(NamedTuple):
    """Steps the devices of a part: their checked readings, and the newest readings known before.

    `quiet` collects the newest readings of devices whose state does not change; a changed state has its own.
    `redelivered` says whether the broker has sent some of the readings again.
    """

    domain: AnyDomain
    rules: Mapping[str, RuleSet]
    checked: Mapping[Source, list[CheckedReading]]
    known: Mapping[Source, Newest]
    quiet: dict[Source, Newest]
    budget: Budget
    epoch: int = 0
    rooms: Rooms | None = None
    redelivered: bool = False

    def step(self, before: DeviceState) -> tuple[DeviceState, Changes]:
        """Steps one device through its readings; returns `before` itself if only `newest` changed."""
        source = Source(before.user_id, before.device_id)
        rules = for_device(self.domain, self.rules[before.user_id], before.device_id)
        checked = self.checked[source]
        if not self.budget.begin(source):
            return before, ()
        newest = order.later(before.newest, self.known.get(source), redelivered=self.redelivered)
        state = before._replace(newest=newest)
        changes: list[Change] = []
        room = left = None if self.rooms is None else self.rooms.left(source.user_id)
        if state.entries or state.before or any(one.violates for one in checked):
            for number, (received, check_results, _) in enumerate(checked):
                if not self.budget.allows(source.user_id):
                    self.budget.stopped[source] = number
                    break
                state, more = machine.step(
                    state, rules, observation(self.domain, received, check_results, self.epoch), room
                )
                if more:
                    self.budget.spend(source.user_id, more)
                    changes += more
                    if left is not None:
                        room = left - (state.open_alerts - before.open_alerts)
        elif rules.judges_readings:
            # Most readings end here, without becoming observations.
            state = state._replace(newest=_pass_over(self.domain, state.newest, checked))
        if not state.same_but_newest(before):
            self.quiet.pop(source, None)
            self.budget.carry(state)
            return state, tuple(changes)
        if state.newest is not None and rules.judges_readings:
            self.quiet[source] = state.newest
        return before, ()


def _pass_over(domain: AnyDomain, before: Newest | None, checked: list[CheckedReading]) -> Newest | None:
    """The newest reading after several that violate nothing: the same as the machine's, at less cost."""
    readings = [one.received for one in checked]
    if len(readings) > 1:
        latest = max([received.reading.time for received in readings])
        equal = [received for received in readings if received.reading.time == latest]
    else:
        equal = readings
    message, reading, _ = equal[-1]
    own, arrival = to_us(reading.time), message.timestamp_ms * 1000
    newer = own <= arrival and (before is None or (own > before.own and arrival >= before.arrival))
    if newer and len(equal) == 1:
        return Newest(own, own - arrival, (_key(domain, equal[0], own),))
    # If clocks are ahead, the newest reading is the one that came last, not the one with the latest time.
    for received in equal if newer else readings[-order.KEYS :]:
        moment = _moment(domain, received)
        if not order.is_late(before, moment):
            before = order.advanced(before, moment)
    return before


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
    text = message.topic + repr([values[name] for name in domain.key_fields])
    return (own << 11 ^ crc32(text.encode(errors="surrogateescape"))) & 0x7FFF_FFFF_FFFF_FFFF


def _check_failed(rule_id: str, error: Exception) -> None:
    log.error("check_failed", rule_id=rule_id, exc_info=error)
    counters.add(client(), {"checks_failed": 1})
    metrics.CHECKS_FAILED.add(1, rule_id)
