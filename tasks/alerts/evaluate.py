"""Judging a part of a batch: its readings in Kafka order, by their users' rules and the domain's checks."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from zlib import crc32

import structlog
from redis.client import Pipeline

from tasks import counters, epochs, metrics, outbox
from tasks.alerts import machine, newest, order, states
from tasks.alerts.budget import Budget
from tasks.alerts.change import Change
from tasks.alerts.machine import Changes, Observation
from tasks.alerts.order import Moment, Newest
from tasks.alerts.rooms import Rooms
from tasks.alerts.rule_sets import about, versioned
from tasks.alerts.state import DeviceState, to_us
from tasks.alerts.states import RulesReplaced
from tasks.batch import NOTHING_DEFERRED, SILENT, Deferred, Message
from tasks.domain import AnyDomain, Source
from tasks.errors import NotNow
from tasks.paths import MISSING
from tasks.record import Reading
from tasks.redis_client import LAST_SEEN, client
from tasks.rules import NO_RULES, Alert, Compiled, RuleSet, find
from tasks.settings import settings

log = structlog.get_logger()

# How often the rules may be replaced while a part is judged by them, and how old they may then be.
RULES_ATTEMPTS = 8
RULES_FRESH_SECONDS = 1.0

BySource = dict[Source, list["Judged"]]


class Judged(NamedTuple):
    """A valid reading and the record that it came in."""

    message: Message
    reading: Reading[Source, Any]

    @property
    def position(self) -> tuple[int, int]:
        """Where the record is in Kafka: partition and offset."""
        return self.message[:2]


class Look(NamedTuple):
    """A reading with what the checks say of it, and whether it violates anything at all."""

    judged: Judged
    verdicts: Mapping[str, Alert | None]
    violates: bool


_NO_VERDICTS: Mapping[str, Alert | None] = {}


class Judgement(NamedTuple):
    """What there is to tell, the generation of the states that were judged, and what is not judged yet."""

    changes: list[Change]
    generation: str
    deferred: Deferred


NOTHING = Judgement([], "", NOTHING_DEFERRED)


def evaluate(domain: AnyDomain, readings: list[Judged], epoch: int = 0) -> Judgement:
    """Steps the sources of the part through its readings and commits the changes with what to tell of them.

    `epoch` is that of the topic that they come from; see `tasks.epochs`.
    The rest of a user whose alerts change too much, or whose outbox is full, is deferred. Readings that are
    replayed silently are left out: they change no state and are no sign of life.
    Raises `NotNow`, `redis.RedisError` or `psycopg.Error` when a server is away; running it again is safe.
    """
    by_source: BySource = {}
    for judged in readings:
        if judged.message.replay == SILENT:
            continue
        by_source.setdefault(judged.reading.source, []).append(judged)
    if not by_source:
        return NOTHING
    part = _Part(domain, by_source, readings[0].message.timestamp_ms, epoch)
    full = outbox.users_at_bound({user_id for user_id, _ in by_source})
    held = {source for source in by_source if source.user_id in full}
    part.done |= held
    generation = _commit(part)
    commands = client().pipeline(transaction=False)
    # What is deferred is a sign of life, too.
    _note_seen(commands, domain, by_source, part.rules)
    newest.note(commands, domain, part.quiet, part.at_ms)
    commands.execute()
    return Judgement(part.changes, generation, _deferred(part, held))


def _deferred(part: "_Part", held: set[Source]) -> Deferred:
    stopped = part.budget.stopped.items()
    return Deferred(
        frozenset(judged.position for source, end in stopped for judged in part.by_source[source][end:]),
        frozenset(judged.position for source in held for judged in part.by_source[source]),
    )


class _Part:
    """The readings of a part, looked at by their users' rules."""

    def __init__(self, domain: AnyDomain, by_source: BySource, at_ms: int, epoch: int) -> None:
        self.domain, self.by_source, self.at_ms, self.epoch = domain, by_source, at_ms, epoch
        self.rules: dict[str, RuleSet] = {}
        self.looks: dict[Source, list[Look]] = {}
        self.known: dict[Source, Newest] = {}
        self.quiet: dict[Source, Newest] = {}
        self.changes: list[Change] = []
        self.generations: set[str] = set()
        self.budget = Budget(settings().part_alert_bytes)
        self.rooms = Rooms()
        self.done: set[Source] = set()
        self._own: dict[str, RuleSet] = {}

    def refresh(self) -> bytes:
        """Looks at the readings of users whose rules have changed; returns the version of the rules."""
        own, version = versioned({user_id for user_id, _ in self.by_source})
        changed = {user_id for user_id, rules in own.items() if rules is not self._own.get(user_id)}
        self._own = own
        self.rules |= {user_id: about(self.domain, own[user_id]) for user_id in changed}
        for source in [source for source in self.by_source if source.user_id in changed]:
            self.looks.pop(source, None)
            self.quiet.pop(source, None)
            if (rules := self.rules[source.user_id]) != NO_RULES:
                # Not in the step, which runs again when another writer was there first.
                self.looks[source] = _look_at(self.domain, rules, self.by_source[source])
        judging = [
            source
            for source in self.looks
            if source.user_id in changed and _judges(self.rules[source.user_id])
        ]
        self.known |= newest.recall(self.domain, judging, self.at_ms)
        return version


def _commit(part: _Part) -> str:
    """Commits what the rules that are in force decide; returns the generation of the states.

    A change of anybody's rules makes it look again, so one who changes them without end could hold up all
    others: after many tries, rules that were in force a moment ago are good enough.
    """
    for attempt in range(1, RULES_ATTEMPTS + 1):
        version, begun = part.refresh(), time.monotonic()
        try:
            return _commit_by(part, version)
        except RulesReplaced:
            log.info("rules_replaced", devices=len(part.looks), attempt=attempt)
            if attempt == RULES_ATTEMPTS and time.monotonic() - begun > RULES_FRESH_SECONDS:
                raise
    return _commit_by(part)


def _commit_by(part: _Part, version: bytes = b"") -> str:
    while sources := [source for source in part.looks if source not in part.done]:
        stepping = Stepping(
            part.domain, part.rules, part.looks, part.known, part.quiet, part.budget, part.epoch, part.rooms
        )
        changes, generation = states.commit(sources, stepping.step, version, part.rooms)
        part.done |= part.budget.committed()
        part.changes += changes
        part.generations.add(generation)
    if len(part.generations) > 1:
        raise NotNow("Redis lost the states of alerts while a part was judged")
    return next(iter(part.generations), "")


def _look_at(domain: AnyDomain, rules: RuleSet, readings: list[Judged]) -> list[Look]:
    looks: list[Look] = []
    for judged in readings:
        message, reading = judged
        verdicts = domain.verdicts(message.topic, reading, _check_failed) if domain.checks else _NO_VERDICTS
        looks.append(Look(judged, verdicts, machine.violates(rules, reading.payload, verdicts)))
    return looks


class Stepping(NamedTuple):
    """What steps the devices of a part: the looks at their readings, and the newest ones of before.

    `quiet` gets the newest readings of those whose state does not change, which has them else.
    """

    domain: AnyDomain
    rules: Mapping[str, RuleSet]
    looks: Mapping[Source, list[Look]]
    known: Mapping[Source, Newest]
    quiet: dict[Source, Newest]
    budget: Budget
    epoch: int = 0
    rooms: Rooms | None = None

    def step(self, before: DeviceState) -> tuple[DeviceState, Changes]:
        """Steps one device through its readings; its state itself, where at most the newest one changed."""
        source = Source(before.user_id, before.device_id)
        rules, looks = self.rules[before.user_id], self.looks[source]
        if not self.budget.begin(source):
            return before, ()
        state = before._replace(newest=order.later(before.newest, self.known.get(source)))
        changes: list[Change] = []
        room = left = None if self.rooms is None else self.rooms.left(source.user_id)
        if state.entries or any(look.violates for look in looks):
            for number, (judged, verdicts, _) in enumerate(looks):
                if not self.budget.allows(source.user_id):
                    self.budget.stopped[source] = number
                    break
                state, more = machine.step(
                    state, rules, _observation(self.domain, judged, verdicts, self.epoch), room
                )
                if more:
                    self.budget.spend(source.user_id, more)
                    changes += more
                    if left is not None:
                        room = left - (state.open_alerts - before.open_alerts)
        elif _judges(rules):
            # Most readings end here, without being made observations.
            state = state._replace(newest=_pass_over(self.domain, state.newest, looks))
        if not state.same_but_newest(before):
            self.quiet.pop(source, None)
            self.budget.carry(state)
            return state, tuple(changes)
        if state.newest is not None and _judges(rules):
            self.quiet[source] = state.newest
        return before, ()


def _judges(rules: RuleSet) -> bool:
    """Whether readings are judged, not only their absence."""
    return bool(rules.comparisons or rules.checks)


def _pass_over(domain: AnyDomain, before: Newest | None, looks: list[Look]) -> Newest | None:
    """The newest reading after several that violate nothing; as the machine has it, for less."""
    readings = [look.judged for look in looks]
    if len(readings) > 1:
        latest = max([judged.reading.time for judged in readings])
        equal = [judged for judged in readings if judged.reading.time == latest]
    else:
        equal = readings
    message, reading = equal[-1]
    own, arrival = to_us(reading.time), message.timestamp_ms * 1000
    newer = own <= arrival and (before is None or (own > before.time and arrival >= before.arrival))
    if newer and len(equal) == 1:
        return Newest(own, own - arrival, (_key(domain, equal[0], own),))
    # Where clocks are ahead, not the latest of the own times is the newest, but what came last.
    for judged in equal if newer else readings[-order.KEYS :]:
        moment = _moment(domain, judged)
        if not order.is_late(before, moment):
            before = order.advanced(before, moment)
    return before


def _observation(
    domain: AnyDomain, judged: Judged, verdicts: Mapping[str, Alert | None], epoch: int = 0
) -> Observation:
    message, reading = judged
    return Observation(
        message.partition,
        epochs.position(epoch, message.offset),
        message.timestamp_ms,
        reading.time,
        reading.fields.__dict__.get("sequence_id"),
        reading.payload,
        verdicts,
        _key(domain, judged, to_us(reading.time)),
    )


def _moment(domain: AnyDomain, judged: Judged) -> Moment:
    own = to_us(judged.reading.time)
    return Moment.of(own, judged.message.timestamp_ms * 1000, _key(domain, judged, own))


def _key(domain: AnyDomain, judged: Judged, own: int) -> int:
    """The row's key as a number below 2^63 that is the same in every process."""
    message, reading = judged
    fields = reading.fields.__dict__
    text = message.topic + repr([fields[name] for name in domain.key_fields])
    return (own << 11 ^ crc32(text.encode(errors="surrogateescape"))) & 0x7FFF_FFFF_FFFF_FFFF


def _check_failed(rule_id: str, error: Exception) -> None:
    log.error("check_failed", rule_id=rule_id, exc_info=error)
    counters.add(client(), {"checks_failed": 1})
    metrics.CHECKS_FAILED.add(1, rule_id)


def _note_seen(commands: Pipeline, domain: AnyDomain, by_source: BySource, rules: dict[str, RuleSet]) -> None:
    seen: dict[str, float] = {}
    for (user_id, device_id), readings in by_source.items():
        member = f"{user_id}/{device_id}"
        seen[member] = max(judged.message.timestamp_ms for judged in readings)
        for rule in rules[user_id].absences:
            if rule.key and (times := [j.message.timestamp_ms for j in readings if _has_value(j, rule)]):
                seen[f"{member}\0{rule.key}"] = max(times)
    commands.zadd(domain.qualified(LAST_SEEN), seen, gt=True)


def _has_value(judged: Judged, rule: Compiled) -> bool:
    value = find(judged.reading.payload, rule)
    return value is not MISSING and value is not None
