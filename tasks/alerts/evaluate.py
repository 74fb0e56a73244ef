"""Judging a part of a batch: its readings in Kafka order, against their users' rules, once each."""

from typing import NamedTuple

from tasks import telemetry
from tasks.alerts import machine, states
from tasks.alerts.change import Change
from tasks.alerts.machine import Changes, Observation
from tasks.alerts.rule_sets import rule_sets
from tasks.alerts.state import DeviceState
from tasks.batch import SILENT, Message
from tasks.paths import MISSING
from tasks.redis_client import LAST_SEEN, client
from tasks.rules import NO_RULES, Compiled, RuleSet, find


class Judged(NamedTuple):
    """A valid reading and the record that it came in."""

    message: Message
    reading: telemetry.Reading


def evaluate(readings: list[Judged]) -> list[Change]:
    """Steps the devices of the part through its readings and commits the changes with what to tell of them.

    Readings that are replayed silently are left out: they change no state and are no sign of life.
    Raises `NotNow`, `redis.RedisError` or `psycopg.Error` when a server is away; running it again is safe.
    """
    by_device: dict[tuple[str, str], list[Judged]] = {}
    for judged in readings:
        if judged.message.replay == SILENT:
            continue
        by_device.setdefault(judged.reading.source, []).append(judged)
    if not by_device:
        return []
    rules = rule_sets({user_id for user_id, _ in by_device})
    ruled = [device for device in by_device if rules[device[0]] != NO_RULES]
    changes = states.transact(ruled, lambda state: _step(state, by_device, rules)) if ruled else []
    _note_seen(by_device, rules)
    return changes


def _step(
    state: DeviceState, by_device: dict[tuple[str, str], list[Judged]], rules: dict[str, RuleSet]
) -> tuple[DeviceState, Changes]:
    readings = by_device[state.user_id, state.device_id]
    after, changes = machine.step_all(state, rules[state.user_id], map(_observation, readings))
    return after, tuple(changes)


def _observation(judged: Judged) -> Observation:
    message, reading = judged
    return Observation(
        message.partition,
        message.offset,
        message.timestamp_ms,
        reading.time,
        reading.fields.sequence_id,
        reading.payload,
    )


def _note_seen(by_device: dict[tuple[str, str], list[Judged]], rules: dict[str, RuleSet]) -> None:
    seen: dict[str, float] = {}
    for (user_id, device_id), readings in by_device.items():
        member = f"{user_id}/{device_id}"
        seen[member] = max(judged.message.timestamp_ms for judged in readings)
        for rule in rules[user_id].absences:
            if rule.key and (times := [j.message.timestamp_ms for j in readings if _has_value(j, rule)]):
                seen[f"{member}\0{rule.key}"] = max(times)
    client().zadd(LAST_SEEN, seen, gt=True)


def _has_value(judged: Judged, rule: Compiled) -> bool:
    value = find(judged.reading.payload, rule)
    return value is not MISSING and value is not None
