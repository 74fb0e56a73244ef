"""Judging a part of a batch: its readings in Kafka order, by their users' rules and the domain's checks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

from tasks import counters, metrics
from tasks.alerts import machine, states
from tasks.alerts.change import Change
from tasks.alerts.machine import Changes, Observation
from tasks.alerts.rule_sets import about, rule_sets
from tasks.alerts.state import DeviceState
from tasks.batch import SILENT, Message
from tasks.domain import AnyDomain, Source
from tasks.paths import MISSING
from tasks.record import Reading
from tasks.redis_client import LAST_SEEN, client
from tasks.rules import NO_RULES, Alert, Compiled, RuleSet, find

log = structlog.get_logger()

BySource = dict[Source, list["Judged"]]


class Judged(NamedTuple):
    """A valid reading and the record that it came in."""

    message: Message
    reading: Reading[Source, Any]


class Look(NamedTuple):
    """A reading with what the checks say of it, and whether it violates anything at all."""

    judged: Judged
    verdicts: Mapping[str, Alert | None]
    violates: bool


_NO_VERDICTS: Mapping[str, Alert | None] = {}


def evaluate(domain: AnyDomain, readings: list[Judged]) -> list[Change]:
    """Steps the sources of the part through its readings and commits the changes with what to tell of them.

    Readings that are replayed silently are left out: they change no state and are no sign of life.
    Raises `NotNow`, `redis.RedisError` or `psycopg.Error` when a server is away; running it again is safe.
    """
    by_source: BySource = {}
    for judged in readings:
        if judged.message.replay == SILENT:
            continue
        by_source.setdefault(judged.reading.source, []).append(judged)
    if not by_source:
        return []
    own = rule_sets({user_id for user_id, _ in by_source})
    rules = {user_id: about(domain, of_user) for user_id, of_user in own.items()}
    ruled = [source for source in by_source if rules[source.user_id] != NO_RULES]
    changes: list[Change] = []
    if ruled:
        # Not in the step, which runs again when another writer was there first.
        looks = {source: _look_at(domain, rules[source.user_id], by_source[source]) for source in ruled}
        changes = states.transact(ruled, lambda state: _step(state, rules, looks))
    _note_seen(domain, by_source, rules)
    return changes


def _look_at(domain: AnyDomain, rules: RuleSet, readings: list[Judged]) -> list[Look]:
    looks: list[Look] = []
    for judged in readings:
        message, reading = judged
        verdicts = domain.verdicts(message.topic, reading, _check_failed) if domain.checks else _NO_VERDICTS
        looks.append(Look(judged, verdicts, machine.violates(rules, reading.payload, verdicts)))
    return looks


def _step(
    state: DeviceState, rules: dict[str, RuleSet], looks: dict[Source, list[Look]]
) -> tuple[DeviceState, Changes]:
    changes: list[Change] = []
    for judged, verdicts, violates in looks[Source(state.user_id, state.device_id)]:
        # Most readings end here, without being made observations.
        if violates or state.entries:
            observation = _observation(judged, verdicts)
            state, more = machine.step(state, rules[state.user_id], observation)
            changes += more
    return state, tuple(changes)


def _observation(judged: Judged, verdicts: Mapping[str, Alert | None]) -> Observation:
    message, reading = judged
    return Observation(
        message.partition,
        message.offset,
        message.timestamp_ms,
        reading.time,
        reading.fields.__dict__.get("sequence_id"),
        reading.payload,
        verdicts,
    )


def _check_failed(rule_id: str, error: Exception) -> None:
    log.error("check_failed", rule_id=rule_id, exc_info=error)
    counters.add(client(), {"checks_failed": 1})
    metrics.CHECKS_FAILED.add(1, rule_id)


def _note_seen(domain: AnyDomain, by_source: BySource, rules: dict[str, RuleSet]) -> None:
    seen: dict[str, float] = {}
    for (user_id, device_id), readings in by_source.items():
        member = f"{user_id}/{device_id}"
        seen[member] = max(judged.message.timestamp_ms for judged in readings)
        for rule in rules[user_id].absences:
            if rule.key and (times := [j.message.timestamp_ms for j in readings if _has_value(j, rule)]):
                seen[f"{member}\0{rule.key}"] = max(times)
    client().zadd(domain.qualified(LAST_SEEN), seen, gt=True)


def _has_value(judged: Judged, rule: Compiled) -> bool:
    value = find(judged.reading.payload, rule)
    return value is not MISSING and value is not None
