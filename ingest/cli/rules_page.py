"""Everything about rules and alerts, as a page: `python -m ingest.cli.rules_page > docs/rules.md`.

Fields and their descriptions are those of the models, and what the examples come to is what the state machine
makes of them.
"""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ingest.admin.groups import MAX_GROUPED, MAX_GROUPS
from ingest.admin.rules_rehearsal import Life
from ingest.cli.pages import table
from ingest.cli.rules_examples import EXAMPLES, Event, Example
from ingest.cli.rules_scenes import scenes
from tasks.outbox import retained
from tasks.rules.answers import Answer, refusal
from tasks.rules.change import Change
from tasks.rules.commands import EXPECTED as EXPECTED_OF_COMMANDS
from tasks.rules.commands import Command, parse_command
from tasks.rules.everyone import EVERYONE
from tasks.rules.machine import Observation
from tasks.rules.model import (
    EXPECTED,
    FOR_EVERYONE,
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_REMEMBERED,
    MAX_RULES,
    ORDERING,
    Fault,
    Rule,
)
from tasks.rules.parsing import MAX_DOCUMENT_BYTES, InvalidDocument, parse_rules
from tasks.rules.queries import EXPECTED as EXPECTED_OF_QUERIES
from tasks.rules.queries import (
    MOST_AT_ONCE,
    PAGE_BYTES,
    AlertsQuery,
    RulesQuery,
    alerts_page,
    rules_page,
)
from tasks.rules.state import to_us

START = datetime(2026, 5, 1, 10, tzinfo=UTC)
USER, DEVICE = "ada", "fridge"

OPERATORS = {
    ">": "the value is above `threshold`",
    "<": "the value is below `threshold`",
    ">=": "the value is `threshold` or above it",
    "<=": "the value is `threshold` or below it",
    "==": "the value equals `threshold`",
    "!=": "the value does not equal `threshold`",
    "in": "the value is one of those in `threshold`, an array",
    "unchanged": "the value is the same as in the reading before; with `for_seconds`, for that long. It has"
    " no `threshold`",
    "absent": "nothing has come for `for_seconds`: no value of the key, or nothing of the whole device"
    " without a `key`. It has no `threshold` and no `clear_threshold`, and needs at least a second",
}
ACTIONS = {
    "SNOOZE": "The rule is silent for `duration_minutes`, also before it has an alert. An open alert that"
    " ends meanwhile is resolved at once; if it does not, it triggers again after the snooze, under another"
    " `alert_id`.",
    "DISABLE": "The rule is not judged for this device, until `ENABLE`. This ends an open alert.",
    "ENABLE": "Ends a snooze or a `DISABLE`. An alert that is still open triggers again at the next reading.",
    "ACKNOWLEDGE": "Notes on an open alert who has seen it, when, and a `note`. The alert goes on; its end,"
    " or a new one after a snooze, ends the acknowledgement.",
}
STATUSES = {
    "TRIGGERED": "The rule is violated, for `for_seconds`.",
    "FLAPPING": "The rule is violated, and its alert has changed too often for each change to be told.",
    "ESCALATED": "A value has raised the alert to a higher `severity`.",
    "RESOLVED": "The violation is over, or the rule is gone.",
    "SNOOZED": "A user snoozed the alert.",
    "DISABLED": "A user disabled the rule for this device.",
    "ENABLED": "A user ended a snooze or a `DISABLE`.",
    "ACKNOWLEDGED": "A user has seen the alert.",
}
REASONS = {
    "rule_removed": "resolved, because the user deleted the rule",
    "rule_changed": "resolved, because the `rule_id` now has another key or operator",
    "snooze_ended": "triggered again after a snooze",
    "calm": "what was flapping is calm: triggered if it is violated, resolved if it is not",
    "returned": "resolved, because what was absent has come",
    "until TIME": "snoozed until then",
}
FIELDS = {
    "alert_id": "the same in all changes of one alert, and in repetitions of a change",
    "status": "the change; see the table below",
    "user_id": "the owner of the device",
    "device_id": "the device; for a source of another domain, `NAME/ID`",
    "rule_id": "the rule's `id`, or else its `key`; `absent` where it has neither",
    "message": "the rule's",
    "severity": "the rule's, or the highest one that it was escalated to",
    "key": "the rule's; null if it has none",
    "operator": "the rule's, or `check` for a check of the domain",
    "threshold": "the rule's; null for `absent` and for checks",
    "value": "the latest value that violated the rule; when RESOLVED, the value that resolved it; null if"
    " there is none",
    "values": "likewise, by their keys, if the rule compares several; otherwise left out",
    "time": "time of the reading that made the change, or else of the command or the clock",
    "sequence_id": "of the latest reading that violated the rule; null if there is none",
    "first_seen": "time since which the rule has been violated without a break",
    "last_seen": "the latest reading that violated it; for `absent`, when it was noticed",
    "count": "how many readings have violated it since `first_seen`",
    "reason": "the cause, if rule and reading do not show it; otherwise left out",
    "by": "the user who sent the command, or `operator/NAME`; otherwise left out",
    "note": "the note of an `ACKNOWLEDGE`; otherwise left out",
}

# Of an alert that is read back; it has more only now and then.
COLUMNS = (
    *("alert_id", "status", "device_id", "rule_id", "message", "severity", "key", "operator", "threshold"),
    *("value", "sequence_id", "first_seen", "last_seen", "count"),
)

WRONG_RULES = [{"key": "temperature", "operator": "=>", "threshold": "8", "massage": "too warm"}]
WRONG_COMMAND = {"device_id": DEVICE, "rule_id": "temperature", "action": "DISABLE", "duration_minutes": 5}
GROUPED = {
    "key": "temperature",
    "operator": ">",
    "threshold": 8,
    "devices": "@cold-room",
    "overrides": {"@deep": {"threshold": -18}},
    "message": "too warm",
}
SNOOZE = {"device_id": DEVICE, "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 30}


def markdown() -> str:
    """The page."""
    return "\n".join(
        [
            *(*_rules(), *_groups(), *_examples(), *scenes(START, USER)),
            *(*_alerts(), *_commands(), *_answers()),
            *(*_retained_states(), *_reading_back(), *_by_operators(), *_for_everyone()),
        ]
    )


def changes_of(example: Example) -> Iterator[tuple[Event, list[Change]]]:
    """Each event with the changes that it makes."""
    life = Life(parse_rules([example.rule]), USER, DEVICE)
    for number, (second, payload) in enumerate(example.events):
        before = len(life.changes)
        time = START + timedelta(seconds=second)
        at_ms = to_us(time) // 1000
        if payload is None:
            life.wait(at_ms)
        else:
            life.hear(Observation(0, number, at_ms, time, number, payload))
        yield (second, payload), life.changes[before:]


def _rules() -> Iterator[str]:
    yield "# Rules and alerts\n"
    yield (
        "Made by `python -m ingest.cli.rules_page` from the models, and by running the state machine on the"
        " examples.\n\n"
        "## Rules\n\n"
        "A user's rules are one document, published to `users/{user}/config` or written by SQL into"
        " `user_configs.rules`:\n"
    )
    yield _block({"rules": [EXAMPLES[0].rule]})
    yield (
        f"At most {MAX_RULES} rules in at most {MAX_DOCUMENT_BYTES // 1024} KiB. A document replaces all"
        " rules of the user. Two rules with the same `rule_id`, `key` and `operator` are the same rule, so an"
        " alert goes on when the threshold changes.\n"
    )
    yield from _fields(Rule, EXPECTED)
    yield "\n### Operators\n"
    yield from _meanings("operator", "violated when", OPERATORS)
    yield (
        "\nA value is compared with a threshold of its own type: one that is missing, null or of another type"
        " neither triggers nor resolves. Strings are case-sensitive, and compared by `==`, `!=`, `in` and"
        " `unchanged` alone, as booleans are.\n\n"
        "### Conditions\n\n"
        "`all` and `any` have conditions in place of `key` and `operator`: comparisons, or `all` and `any`"
        f" again, {MAX_DEPTH} deep and with at most {MAX_COMPARISONS} comparisons. They are about the values"
        " of one reading. If a value of it is missing, the rule is only judged if the others decide it."
        " The alert has no `key`, `operator`, `threshold` and `value`, but `values`.\n\n"
        "`change` and `unchanged` compare with the reading before: the latest one that was not late. Redis"
        " remembers its value while a rule compares it; after a loss of Redis, and when the clock of the"
        " device is set, the next reading begins."
        f" At most {MAX_REMEMBERED} keys of a user may be compared so.\n\n"
        "Silence counts only while something could have come: nothing is absent while a gateway is away or"
        " readings still wait in Kafka, and after an outage devices have"
        " `ABSENCE_GRACE_SECONDS` to return. With Vector as the gateway it is unknown when devices are"
        " heard, so absences are not judged. The same goes for `for_seconds`, which the clock counts on"
        " while no reading comes: a single reading that violates the rule, and then silence, triggers the"
        " alert. `for_readings` prevents that.\n\n"
        "A device that has never sent anything is not missed, unless the operator sets"
        " `ABSENT_NEVER_SEEN`. Then `absent` without a `key` is also about devices that were given an account"
        " (`sluice provision device`) and were never heard of, and about those that a rule names in"
        " `devices`, not by a pattern; other domains than the default have the latter alone. `for_seconds`"
        " counts from"
        " the time of the account, or of the user's rules where that is later, and `first_seen` of the alert"
        " is that time. A device whose messages were all refused has been heard of.\n\n"
        "`escalate` raises the severity within one alert, under the same `alert_id`. `TRIGGERED` has the"
        " highest severity that a value has reached since `first_seen`, each rise after it is one"
        " `ESCALATED`, and `RESOLVED` has the highest. It does not fall, and an acknowledgement stays. During"
        " a snooze it rises in `active_alerts` alone, and the alert that follows the snooze has it. It needs"
        f" one of {', '.join(f'`{one}`' for one in ORDERING)} and a `threshold`.\n\n"
        "`flapping` keeps an alert that comes and goes from telling each change. Counted are the changes of"
        " one rule and device, TRIGGERED and RESOLVED, by the judged times of the readings, those of"
        " `absent` by the clock. If the latest `changes` of them lie within the last `minutes`, the next"
        " alert is told as `FLAPPING` in place of `TRIGGERED`, under an `alert_id` of its own, and of what"
        " follows nothing is told. An alert is calm when its rule has been violated, or over, for `minutes`"
        " without a break, which a reading shows or, while none comes, the clock as for `for_seconds`. Then"
        " it is told `TRIGGERED` or `RESOLVED`, with the reason `calm` and the same `alert_id`, and counting"
        " begins anew. So an alert begins once, as `TRIGGERED` or as `FLAPPING`, and ends once. While it is"
        " flapping, `for_seconds` and `for_readings` are not waited for, and `value`, `first_seen`, `count`"
        " and `severity` are those of the latest violation. A late or repeated reading is no change; a"
        " snooze and `DISABLE` end the flapping and the count. If the device's clock is set, by more than a"
        " day, the time of calm begins again.\n\n"
        "`sluice rules check FILE` explains a rule set, `sluice rules test` tries it on stored readings.\n"
    )


def _groups() -> Iterator[str]:
    yield (
        "### Groups of devices\n\n"
        "Where a device could stand in `devices` and `overrides`, `@NAME` stands for the devices of a group,"
        " so that the rule stays the same while the fleet changes:\n"
    )
    yield _block(GROUPED)
    yield (
        "The operator keeps the groups of each user, in the table `device_groups` (`user_id`, `group_name`,"
        " `device_id`) or by command:\n\n"
        "```sh not-runnable\n"
        f"sluice groups add {USER} cold-room fridge freezer-1 freezer-2\n"
        f"sluice groups add {USER} deep --from deep.txt    # one id on a line; - is stdin\n"
        f"sluice groups remove {USER} cold-room freezer-2\n"
        f"sluice groups show {USER} cold-room\n"
        "```\n\n"
        "Rules follow a change within a second. What leaves the group has its open alert resolved, as if the"
        " rule did not name it any more. A rule may name a group that has no devices yet: the answer has a"
        " warning, and the rule is about them once there are some. A device may be in several groups; of"
        " those in `overrides` the first by the alphabet counts. `device_id` is the device's own id, without"
        f" the name of a domain. A user has at most {MAX_GROUPS} groups, with {MAX_GROUPED:,} devices in all"
        " of them together. A device whose own id begins with `@` is meant by it, too.\n"
    )


def _examples() -> Iterator[str]:
    yield "### Examples"
    for example in EXAMPLES:
        yield f"\n{example.title}:\n\n{_block(example.rule)}"
        yield from table("after | reading | change", map(_row, changes_of(example)))


def _row(happened: tuple[Event, list[Change]]) -> tuple[str, ...]:
    (second, payload), changes = happened
    reading = "nothing comes" if payload is None else f"`{json.dumps(payload)}`"
    return f"{second} s", reading, ", ".join(change.status for change in changes)


def _alerts() -> Iterator[str]:
    yield (
        "\n## Alerts\n\n"
        "Each change of an alert is published once to `users/{user}/alerts` and is a row of `alert_history`;"
        " `active_alerts` has the current ones. The limit of open alerts is in"
        " [reference.md](reference.md#limits-of-one-user). The first example's alert begins so:\n"
    )
    (triggered,) = [c for _, changes in changes_of(EXAMPLES[0]) for c in changes if c.status == "TRIGGERED"]
    yield _block(json.loads(triggered.to_json()))
    yield from _meanings("field", "meaning", FIELDS)
    yield ""
    yield from _meanings("`status`", "meaning", STATUSES)
    yield ""
    yield from _meanings("`reason`", "meaning", REASONS)


def _commands() -> Iterator[str]:
    yield (
        "\n## Commands\n\n"
        "A command is about one rule of one device, and is published to `users/{user}/alerts/manage`:\n"
    )
    yield _block(SNOOZE)
    yield from _fields(Command, EXPECTED_OF_COMMANDS)
    yield ""
    yield from _meanings("`action`", "effect", ACTIONS)
    yield (
        "\nA command is as old as its arrival, and one that is older than the last executed one changes"
        " nothing. Only an open alert can be acknowledged.\n"
    )


def _answers() -> Iterator[str]:
    yield (
        "## Answers\n\n"
        "Each document has one answer: rules on `users/{user}/config/status`, commands on"
        " `users/{user}/alerts/manage/status`. Rules that are in force, and a command that was executed:\n"
    )
    yield _block(Answer(ok=True, rules=1))
    yield _block(Answer(ok=True))
    yield "A refused document changes nothing; the answer names every fault with its path:\n"
    yield _block(refusal(_faults(parse_rules, WRONG_RULES)))
    yield _block(refusal(_faults(parse_command, WRONG_COMMAND)))


def _retained_states() -> Iterator[str]:
    (triggered,) = [c for _, changes in changes_of(EXAMPLES[0]) for c in changes if c.status == "TRIGGERED"]
    example = retained.topic(triggered.user_id, triggered.device_id, triggered.rule_id)
    yield (
        "## Retained states\n\n"
        "A dashboard or a panel on the wall wants to know what is open now, without asking. With the"
        " operator's setting `RETAINED_ALERT_STATES=on` the MQTT broker keeps the latest change of each open"
        " alert, retained, on `users/{user}/alerts/state/{device}/{rule}`. Device and rule are"
        " percent-encoded, so that `kitchen/1` is `kitchen%2F1`. Who subscribes to"
        " `users/{user}/alerts/state/#` gets all of them at once, then every change, and an empty message"
        " when an alert is over. A user may read these topics and not write to them. For example, on"
        f" `{example}`:\n"
    )
    yield _block(json.loads(triggered.to_json()))
    yield (
        "A snoozed and an acknowledged alert are open: the state is the change that says so. `RESOLVED` and"
        " `DISABLED` clear it. Sluice publishes each state after the change itself, on the same connection;"
        " a worker that is killed in between leaves the rest to the next one, which begins where the first"
        " was, so a state may come twice and ends right. An alert that was open before the setting was"
        " switched on has a state from its next change. Before `off`, set `clear` for a while: then each"
        " change of an alert removes what the broker keeps of it. For the whole list, at any time and with"
        " every change that was made, see [reading back](#reading-back).\n"
    )


def _reading_back() -> Iterator[str]:
    yield (
        "## Reading back\n\n"
        "A query on `users/{user}/rules/get` asks for the rules in force, one on `users/{user}/alerts/get`"
        " for the open alerts. It is empty, or an object with some of these fields; `device_id` and"
        " `silenced` are about alerts alone:\n"
    )
    yield from _fields(AlertsQuery, EXPECTED_OF_QUERIES)
    yield (
        "\nThe answer comes on `users/{user}/rules` or on `users/{user}/alerts/open`. MQTT 5 has a better"
        " place: with a response topic below `users/{user}/` it comes there. A user's account may subscribe"
        " to `users/{user}/responses/#`; for other topics the operator adds rows to `mqtt_acl`, for the"
        " user's account and for Sluice's. A response topic of another user, one that has a meaning of its"
        " own, and one that the broker refuses give way to the usual topic. The correlation data come back"
        " in any case. The [tutorial](tutorial.md) asks with `mosquitto_rr`. With `limit` 1 and the `id` 7,"
        " the answer is for example:\n"
    )
    (triggered,) = [c for _, changes in changes_of(EXAMPLES[0]) for c in changes if c.status == "TRIGGERED"]
    change = json.loads(triggered.to_json())
    alert = {name: change[name] for name in COLUMNS if name in change}
    yield _block(Answer(**alerts_page(AlertsQuery(limit=1), USER, [alert, alert]), id="7"))
    yield (
        "An alert has the fields of its latest change, and where there are such `snoozed_until`,"
        " `acknowledged_at`, `acknowledged_by` and `note`. Every change that was made before the query is"
        f" in the answer. It holds at most {MOST_AT_ONCE} alerts or rules, and {PAGE_BYTES // 1024} KiB, or a"
        " single rule. One that is cut has `next`, which goes into `after` of the next query. Rules come"
        " as they were sent:\n"
    )
    yield _block(Answer(**rules_page(RulesQuery(), USER, [EXAMPLES[0].rule]), id="8"))
    yield (
        "Rules in the table that are not valid are not in force: `warnings` names them. Queries count as"
        " requests, of which a user may have `REQUESTS_PER_USER` without an answer, and are done in order"
        " with the user's rules and commands: what was answered before is in the next answer.\n"
    )


def _by_operators() -> Iterator[str]:
    yield (
        "## By command\n\n"
        "`sluice alerts acknowledge`, `snooze`, `disable` and `enable` send the same commands for a user, and"
        " have the same answers. Their author is `operator/NAME`, which is `by` in the change and"
        " `acknowledged_by` in the table, and `sluice audit` shows them.\n\n"
        "`sluice rules export USER FILE` writes a user's rules into a file, `diff` compares, and `import`"
        " replaces them, after showing the difference and asking. The file is checked as a document over MQTT"
        " is, with every fault at once. The latest 50 versions of each user's rules are kept in"
        " `rule_versions`, with who wrote them and the way: over MQTT, by command, by SQL or by the"
        " operator over the HTTP API:"
        " `sluice rules history USER` lists them, and `restore USER VERSION` goes back to one.\n\n"
        "`sluice rules test FILE --user USER` judges stored readings by a file and says how often each rule"
        " would have fired, with a picture of when.\n"
    )


def _for_everyone() -> Iterator[str]:
    yield (
        "## Rules for every user\n\n"
        f"Rules of the operator's hold for every user, beside the user's own. They are those of the user"
        f" `{EVERYONE}`, which nobody can be, in `user_configs` or by command:\n\n"
        "```sh not-runnable\n"
        f"sluice rules import {EVERYONE} rules.json    # export, diff, history and restore likewise\n"
        "```\n\n"
        f"Their names begin with `{FOR_EVERYONE}`, which no other name may: the rule `frost` is"
        f" `{FOR_EVERYONE}frost` in alerts and commands. They are judged as the user's own are: `devices` and"
        " `overrides` are about those of the user's devices and groups that have these names, and a rule"
        " without a `domain` is about the default one. Their alerts go where the user's go: to"
        " `users/{user}/alerts`, to the tables and to the user's channels. A user may acknowledge and snooze"
        " them, but not disable them; the operator may do both. They do not count for the user's limits,"
        " neither as rules nor as open alerts.\n\n"
        "A change is in force for every user within a second: workers take it up with the next readings of"
        " each user, so that many users are no storm. A task then resolves the open alerts of rules that are"
        " gone. A rule about absence holds for every user in the registry of devices, for a new one within a"
        " minute. The answer on `users/{user}/rules` has these rules apart, as `operator_rules`, behind the"
        " user's own.\n"
    )


def _faults(parse: Callable[[Any], object], document: Any) -> list[Fault]:
    try:
        parse(document)
    except InvalidDocument as error:
        return error.errors
    raise AssertionError(f"the page shows as wrong what is right: {document}")


def _meanings(head: str, meaning: str, meanings: dict[str, str]) -> Iterator[str]:
    return table(f"{head} | {meaning}", ((f"`{name}`", text) for name, text in meanings.items()))


def _fields(model: type[BaseModel], expected: dict[str, str]) -> Iterator[str]:
    rows = (
        (f"`{name}`", expected[name], _default(field), field.description or "")
        for name, field in model.model_fields.items()
    )
    return table("field | value | default | meaning", rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None:
        return ""
    return f"`{json.dumps(field.default)}`" if type(field.default) is bool else f"`{field.default}`"


def _block(document: Any) -> str:
    return f"```json\n{json.dumps(document, ensure_ascii=False, indent=2)}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
