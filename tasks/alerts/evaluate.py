"""Judging a part of a batch: its readings in Kafka order, by their users' rules and the domain's checks."""

import time
from typing import NamedTuple

import structlog
from redis.client import Pipeline

from tasks.alerts import newest, state_store
from tasks.alerts.alert_room import Rooms
from tasks.alerts.budget import Budget
from tasks.alerts.rule_cache import versioned
from tasks.alerts.state_store import RulesReplaced
from tasks.alerts.stepping import BySource, Checked, Stepping, check_readings
from tasks.batch.messages import NOTHING_DEFERRED, REDELIVERED, SILENT, Deferred
from tasks.domain.domain import AnyDomain, Source
from tasks.domain.placement import about, for_device
from tasks.errors import NotNow
from tasks.outbox import deliver, stream
from tasks.rows.validate import Received
from tasks.rules.change import Change
from tasks.rules.order import Newest
from tasks.rules.rule import NO_RULES, Compiled, RuleSet, find
from tasks.servers.redis_client import LAST_SEEN, client
from tasks.settings import settings
from tasks.text.paths import MISSING

log = structlog.get_logger()

# A part is judged again this often while rules are replaced; after that, rules of this age are good enough.
RULES_ATTEMPTS = 8
RULES_FRESH_SECONDS = 1.0


class Judgement(NamedTuple):
    """The changes to deliver, the generation of the states that were judged, and what is not judged yet.

    `by_source` has all readings but those that are replayed silently, each source's in Kafka order.
    """

    changes: list[Change]
    generation: str
    deferred: Deferred
    by_source: BySource


NOTHING = Judgement([], "", NOTHING_DEFERRED, {})


def evaluate(domain: AnyDomain, readings: list[Received], epoch: int = 0) -> Judgement:
    """Runs each device's readings through the state machine, and commits the states and outbox entries.

    `epoch` is that of the topic that they come from; see `tasks.batch.epochs`.
    Once a user's alerts have changed too much, the user's remaining readings are deferred; all of them are
    if the user's share of the outbox is full, or a change cannot be written.
    Readings that are replayed silently are left out: they change no state and are not a sign of life.
    Raises `NotNow`, `redis.RedisError` or `psycopg.Error` when a server is away; running it again is safe.
    """
    by_source: BySource = {}
    again: set[Source] = set()
    for received in readings:
        message, reading, _ = received
        source = reading.source
        if replay := message.replay:
            if replay == SILENT:
                continue
            if replay == REDELIVERED:
                again.add(source)
        if (of_source := by_source.get(source)) is None:
            by_source[source] = [received]
        else:
            of_source.append(received)
    if not by_source:
        return NOTHING
    part = _Part(domain, by_source, again, epoch)
    full = stream.users_at_bound({user_id for user_id, _ in by_source})
    held = {source for source in by_source if source.user_id in full} if full else set()
    part.done |= held
    generation = _commit(part)
    commands = client().pipeline(transaction=False)
    # Deferred readings are a sign of life, too.
    _note_seen(commands, domain, by_source, part.rules)
    newest.note(commands, domain, part.quiet, part.last_arrivals())
    commands.execute()
    return Judgement(part.changes, generation, _deferred(part, held), by_source)


def _deferred(part: "_Part", held: set[Source]) -> Deferred:
    stopped = part.budget.stopped.items()
    return Deferred(
        frozenset(received.position for source, end in stopped for received in part.by_source[source][end:]),
        frozenset(received.position for source in held for received in part.by_source[source]),
    )


class _Part:
    """The readings of a part, each checked by its user's rules."""

    def __init__(self, domain: AnyDomain, by_source: BySource, redelivered: set[Source], epoch: int) -> None:
        self.domain, self.by_source, self.epoch = domain, by_source, epoch
        self.redelivered = redelivered
        self.rules: dict[str, RuleSet] = {}
        self.checked: dict[Source, Checked] = {}
        self.known: dict[Source, Newest] = {}
        self.known_again: dict[Source, Newest] = {}
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
        ruled = {user_id: rules for user_id in changed if (rules := self.rules[user_id]) != NO_RULES}
        judging: dict[Source, int] = {}
        looked_before = bool(self.checked or self.quiet)
        for source, readings in self.by_source.items():
            user_id, device_id = source
            if user_id not in changed:
                continue
            if looked_before:
                self.checked.pop(source, None)
                self.quiet.pop(source, None)
            if (own_rules := ruled.get(user_id)) is not None:
                # Not in the step, which is repeated when another writer committed first.
                of_device = for_device(self.domain, own_rules, device_id)
                self.checked[source] = check_readings(self.domain, of_device, readings)
                if own_rules.judges_readings:
                    judging[source] = readings[0].message.timestamp_ms
        again = {source: judging[source] for source in self.redelivered & judging.keys()}
        self.known_again |= newest.recall_any(self.domain, again)
        self.known |= self.known_again | newest.recall(self.domain, judging)
        return version

    def last_arrivals(self) -> dict[Source, int]:
        """For each quiet device, the arrival of its last judged reading (ms)."""
        by_source, stopped = self.by_source, self.budget.stopped
        return {
            source: by_source[source][stopped.get(source, 0) - 1].message.timestamp_ms
            for source in self.quiet
        }


def _commit(part: _Part) -> str:
    """Commits what the rules in force decide; returns the generation of the states.

    A change of any user's rules makes it look again, so a user who changes rules without end could hold up
    all others: after many tries, rules that were in force a moment ago are good enough.
    """
    for attempt in range(1, RULES_ATTEMPTS + 1):
        version, begun = part.refresh(), time.monotonic()
        try:
            return _commit_by(part, version)
        except RulesReplaced:
            log.info("rules_replaced", devices=len(part.checked), attempt=attempt)
            if attempt == RULES_ATTEMPTS and time.monotonic() - begun > RULES_FRESH_SECONDS:
                raise
    return _commit_by(part)


def _commit_by(part: _Part, version: bytes = b"") -> str:
    while sources := [source for source in part.checked if source not in part.done]:
        stepping = Stepping(
            *(part.domain, part.checked, part.known, part.quiet),
            *(part.budget, part.epoch, part.rooms, part.known_again),
        )
        changes, generation = state_store.commit(sources, stepping.step, version, part.rooms, stepping.passes)
        part.done |= part.budget.committed()
        part.changes += changes
        part.generations.add(generation)
    if len(part.generations) > 1:
        raise NotNow("Redis lost the states of alerts while a part was judged")
    return next(iter(part.generations), "")


def _note_seen(commands: Pipeline, domain: AnyDomain, by_source: BySource, rules: dict[str, RuleSet]) -> None:
    seen: dict[str, float] = {}
    for (user_id, device_id), readings in by_source.items():
        member = f"{user_id}/{device_id}"
        # One reading is the rule where a batch is of many devices.
        times = [received.message.timestamp_ms for received in readings]
        seen[member] = times[0] if len(times) == 1 else max(times)
        own = rules[user_id]
        if not own.absences:
            continue
        for rule in for_device(domain, own, device_id).absences:
            if rule.key and (times := [j.message.timestamp_ms for j in readings if _has_value(j, rule)]):
                seen[f"{member}\0{rule.key}"] = max(times)
    commands.zadd(domain.qualified(LAST_SEEN), seen, gt=True)


def _has_value(received: Received, rule: Compiled) -> bool:
    value = find(received.reading.payload, rule)
    return value is not MISSING and value is not None


def judge(domain: AnyDomain, readings: list[Received], epoch: int) -> Judgement:
    """Evaluates the alert rules and the domain's checks, and has the changes published.

    `store` writes them into the tables, before the batch is done; a batch that never comes there leaves them
    to the sweep.
    `epoch` is that of the topic that the readings come from. Raises `OutboxFull`, and what `evaluate` raises.
    """
    stream.require_room()
    judgement = evaluate(domain, readings, epoch)
    if judgement.changes:
        deliver.wake("mqtt")
    return judgement
