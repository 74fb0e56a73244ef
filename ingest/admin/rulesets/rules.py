"""The work of `sluice rules`: rules read from a file, explained, and tried on what is stored."""

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection, session
from ingest.admin.rulesets.rules_picture import picture
from ingest.admin.rulesets.rules_rehearsal import Firing, History, judge, read
from ingest.requests.rules_report import invalid_rules
from tasks import registry
from tasks.alerts.stored_rules import groups_of
from tasks.domain.domain import AnyDomain
from tasks.domain.placement import in_force
from tasks.rules.change import iso
from tasks.rules.devices import NO_GROUPS, names_groups, patterns
from tasks.rules.everyone import EVERYONE, named
from tasks.rules.model import Condition, Fault, Rule, Scalar
from tasks.rules.parsing import InvalidRules, parse_rules
from tasks.rules.rule import Compiled, RuleSet
from tasks.text.times import in_utc, parse_moment

_STORED = "SELECT rules, updated_at FROM user_configs WHERE user_id = %s"
# Nobody reads more firings of one rule than this.
MAX_SHOWN = 20


class RulesRefused(OperatorError):
    """The file holds no rule set; the message has every error, each with its path."""


def load(path: str) -> RuleSet:
    """The rules of a file, or of stdin for `-`. Raises `OperatorError`, `RulesRefused`."""
    try:
        document = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return parse_rules(document)
    except InvalidRules as error:
        raise refused(path, error.errors) from error


def refused(source: str, faults: list[Fault]) -> RulesRefused:
    """The error about a rule set that is not valid, with every fault and its path."""
    lines = [f"  {fault['path']}: {fault['message']}" for fault in faults]
    return RulesRefused(
        "\n".join([f"{source} is not a valid rule set; {_count(len(lines), 'error')}:", *lines])
    )


def check_stored() -> str:
    """How many rules there are in the table. Raises `OperatorError`, `RulesRefused`."""
    lines: list[str] = []
    users = valid = 0
    with session() as connection:
        for user_id, own, faults in invalid_rules(connection, None):
            users, valid = users + 1, valid + own
            lines += [f"  {user_id}: {fault['path']}: {fault['message']}" for fault in faults]
    counted = f"{_count(valid, 'valid rule')} of {_count(users, 'user')}"
    if lines:
        raise RulesRefused(
            "\n".join([f"{counted}; not in force, with {_count(len(lines), 'error')}:", *lines])
        )
    return counted


def stored(connection: Connection, user_id: str) -> dict[str, Any]:
    """The user's rules as they are in the table, with the faults of those that are not in force.

    Raises `psycopg.Error`.
    """
    found = connection.execute(_STORED, [user_id]).fetchone()
    raw, updated_at = ([], None) if found is None else found
    return {
        "user_id": user_id,
        "rules": raw,
        "updated_at": updated_at,
        "faults": list(in_force(raw).faults),
    }


def for_everyone(connection: Connection) -> list[dict[str, Any]]:
    """The operator's rules in force, under the ids that they have for users. Raises `psycopg.Error`."""
    found = connection.execute(_STORED, [EVERYONE]).fetchone()
    rules = in_force([] if found is None else found[0]).rules
    return [rule.model_dump(exclude_unset=True) for rule in named(rules)]


def explain(rules: RuleSet) -> Iterator[str]:
    """Each rule as a sentence."""
    for rule, compiled in zip(rules.rules, rules.by_id.values(), strict=True):
        about = f"of {rule.domain}, " if rule.domain else ""
        if rule.devices is not None:
            about += f"of {', '.join(patterns(rule.devices))}, "
        said = f"{_condition(rule)}: {_severity(rule)}, “{rule.message}”{_flaps(rule)}"
        yield f"{compiled.rule_id}: {about}{said}"
        for pattern, own in (rule.overrides or {}).items():
            yield f"  {pattern}: {json.dumps(own.model_dump(exclude_unset=True), ensure_ascii=False)}"


def _flaps(rule: Rule) -> str:
    if rule.flapping is None:
        return ""
    return f"; flapping from {rule.flapping.changes} changes in {rule.flapping.minutes:g} min"


def _severity(rule: Rule) -> str:
    steps = "".join(f", {step.severity} beyond {json.dumps(step.threshold)}" for step in rule.escalate or ())
    return f"{rule.severity}{steps}"


def parse_since(text: str, now: datetime) -> datetime:
    """The start of a span such as `7d` or `90m`, or a time. Raises `OperatorError`."""
    try:
        return parse_moment(text, now)
    except ValueError as error:
        raise OperatorError(f"--since {error}.") from error


def domain_named(name: str | None) -> AnyDomain:
    """The domain of that name, or the default one. Raises `OperatorError`."""
    if name is None:
        return registry.default()
    try:
        return registry.by_name(name)
    except registry.UnknownDomain as error:
        raise OperatorError(f"{error}.") from None


def about(domain: AnyDomain, rules: RuleSet) -> RuleSet:
    """The rules that are about a domain, without its checks, which need more than what is stored."""
    return rules.of(domain.name, (), default=domain is registry.default())


def try_out(
    domain: AnyDomain, rules: RuleSet, user_id: str, device_id: str | None, since: datetime, now: datetime
) -> History:
    """The alerts that the rules would have raised on the domain's stored readings. Raises `OperatorError`."""
    with session() as connection:
        if names_groups(rules.rules):
            rules = with_groups(connection, user_id, rules)
        return judge(rules, user_id, read(connection, domain, user_id, device_id, since, now), now)


def with_groups(connection: Connection, user_id: str, rules: RuleSet) -> RuleSet:
    """The rules, about the devices that the user's groups have at present. Raises `psycopg.Error`."""
    with connection.cursor() as cursor:
        return rules.with_groups(groups_of(cursor, [user_id]).get(user_id, NO_GROUPS))


def as_json(rules: RuleSet, history: History, now: datetime) -> dict[str, Any]:
    """The history for machines; durations in seconds, the end null for an alert that is still open."""
    return {
        "readings": history.readings,
        "devices": history.devices,
        "rules": [
            {
                "rule_id": rule.rule_id,
                "fired": len(firings),
                "flaps": sum(firing.flap for firing in firings),
                "flapping": sum(firing.flapping for firing in firings),
                "seconds": sum(firing.lasted(now).total_seconds() for firing in firings),
                "firings": [
                    {
                        "device_id": firing.device_id,
                        "begin": iso(firing.begin),
                        "end": None if firing.end is None else iso(firing.end),
                        "value": firing.value,
                        "flap": firing.flap,
                        "flapping": firing.flapping,
                    }
                    for firing in firings
                ],
            }
            for rule, firings in by_rule(rules, history)
        ],
    }


def as_text(rules: RuleSet, history: History, since: datetime, now: datetime) -> Iterator[str]:
    """The history for people, rule by rule, with a picture of when alerts would have been open."""
    yield judged(history)
    if history.first is not None:
        # Where the readings begin later, the picture does.
        since = max(since, history.first)
    for rule, firings in by_rule(rules, history):
        yield f"{rule.rule_id}: {outcome(firings, now)}"
        if not firings:
            continue
        yield f"  {picture([(one.begin, one.end) for one in firings], since, now)}"
        for firing in firings[:MAX_SHOWN]:
            value = "" if firing.value is None else f"  at {_shown(firing.value)}"
            still = "" if firing.end else ", still open"
            yield (
                f"  {in_utc(firing.begin)}  {firing.device_id}"
                f"  for {span(firing.lasted(now))}{still}{value}{_mark(firing)}"
            )
        if len(firings) > MAX_SHOWN:
            yield f"  and {len(firings) - MAX_SHOWN} more; --json has them all"


def judged(history: History) -> str:
    """How much was judged."""
    return f"{_count(history.readings, 'reading')} of {_count(history.devices, 'device')}"


def outcome(firings: list[Firing], now: datetime) -> str:
    """The effect that a rule would have had, by its alerts."""
    if not firings:
        return "would not have fired"
    open_for = span(sum((firing.lasted(now) for firing in firings), timedelta()))
    flaps = sum(firing.flap for firing in firings)
    devices = _count(len({firing.device_id for firing in firings}), "device")
    return (
        f"would have fired {_count(len(firings), 'time')} on {devices}, open for {open_for} in all;"
        f" {_count(flaps, 'flap')} (back within 5 minutes){_told_as_flapping(firings)}"
    )


def _told_as_flapping(firings: list[Firing]) -> str:
    number = sum(firing.flapping for firing in firings)
    return f"; {_count(number, 'time')} FLAPPING" if number else ""


def _mark(firing: Firing) -> str:
    return f"  {mark}" if (mark := flap_of(firing)) else ""


def flap_of(firing: Firing) -> str:
    """Whether an alert is a flap, or began as FLAPPING; empty if neither."""
    return "FLAPPING" if firing.flapping else "flap" if firing.flap else ""


def _shown(value: Scalar) -> str:
    return f"{value:g}" if type(value) is float else json.dumps(value, ensure_ascii=False)


def by_rule(rules: RuleSet, history: History) -> list[tuple[Compiled, list[Firing]]]:
    """The rules in their order, each with its alerts by their begin."""
    return [
        (rule, sorted(history.firings[rule_id], key=lambda firing: firing.begin))
        for rule_id, rule in rules.by_id.items()
    ]


def _condition(rule: Rule) -> str:
    patience = span(timedelta(seconds=rule.for_seconds))
    if rule.operator == "absent":
        what = f"no value of {rule.key}" if rule.key else "nothing from the device"
        return f"{what} for {patience}"
    condition = _compared(rule)
    if rule.for_seconds:
        condition += f" for {patience}"
    if rule.for_readings > 1:
        condition += f" in {rule.for_readings} readings in a row"
    if rule.clear_threshold is not None:
        condition += f", over when no longer {rule.operator} {rule.clear_threshold}"
    return condition


def _compared(one: Condition, *, inside: bool = False) -> str:
    """A condition as people write one. `inside` another one it has parentheses."""
    for members, word in ((one.all, " and "), (one.any, " or ")):
        if members is not None:
            joined = word.join(_compared(member, inside=True) for member in members)
            return f"({joined})" if inside and len(members) > 1 else joined
    name = f"{one.change}({one.key})" if one.change else one.key
    if one.operator == "unchanged":
        return f"{name} unchanged"
    limit = one.threshold_key or json.dumps(one.threshold, ensure_ascii=False)
    over = f" (clear: {one.clear_threshold})" if inside and one.clear_threshold is not None else ""
    return f"{name} {one.operator} {limit}{over}"


def span(length: timedelta) -> str:
    """A length of time as people write it."""
    seconds = length.total_seconds()
    whole = int(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    if whole < 60 and whole != seconds:
        return f"{seconds:g} s"
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
