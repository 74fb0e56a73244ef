"""The sections about rules: how they are written, judged and kept."""

import json
from collections.abc import Iterator

from ingest.admin.groups import MAX_GROUPED, MAX_GROUPS
from ingest.cli.pages import table
from ingest.cli.rules_page.blocks import block, fields, meanings
from ingest.cli.rules_page.examples import EXAMPLES, USER, Event, changes_of
from ingest.cli.rules_page.meanings import OPERATORS
from tasks.rules.change import Change
from tasks.rules.everyone import EVERYONE
from tasks.rules.model import (
    EXPECTED,
    FOR_EVERYONE,
    MAX_COMPARISONS,
    MAX_DEPTH,
    MAX_REMEMBERED,
    MAX_RULES,
    ORDERING,
    Rule,
)
from tasks.rules.parsing import MAX_DOCUMENT_BYTES

GROUPED = {
    "key": "temperature",
    "operator": ">",
    "threshold": 8,
    "devices": "@cold-room",
    "overrides": {"@deep": {"threshold": -18}},
    "message": "too warm",
}


def rules() -> Iterator[str]:
    """Documents, rules, operators, conditions."""
    yield "# Rules and alerts\n"
    yield (
        "Made by `python -m ingest.cli.rules_page` from the models, and by running the state machine on the"
        " examples.\n\n"
        "## Rules\n\n"
        "A user's rules are one document, published to `users/{user}/config` or written by SQL into"
        " `user_configs.rules`:\n"
    )
    yield block({"rules": [EXAMPLES[0].rule]})
    yield (
        f"At most {MAX_RULES} rules in at most {MAX_DOCUMENT_BYTES // 1024} KiB. A document replaces all"
        " rules of the user. Two rules with the same `rule_id`, `key` and `operator` are the same rule, so an"
        " alert goes on when the threshold changes.\n"
    )
    yield from fields(Rule, EXPECTED)
    yield "\n### Operators\n"
    yield from meanings("operator", "violated when", OPERATORS)
    yield (
        "\nA value is compared with a threshold of its own type: a missing value, null or another type"
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
        "`flapping` publishes an alert that comes and goes as one. It counts the changes of one rule and"
        " device, TRIGGERED and RESOLVED, by the judged times of the readings, those of `absent` by the"
        " clock. If the latest `changes` of them lie within the last `minutes`, the next alert is published"
        " as `FLAPPING` in place of `TRIGGERED`, under an `alert_id` of its own, and its further changes are"
        " not published. An alert is calm when its rule has been violated, or over, for `minutes`"
        " without a break, which a reading shows or, while none comes, the clock as for `for_seconds`. Then"
        " `TRIGGERED` or `RESOLVED` is published, with the reason `calm` and the same `alert_id`, and"
        " counting starts again. So an alert begins once, as `TRIGGERED` or as `FLAPPING`, and ends once."
        " While it is flapping, `for_seconds` and `for_readings` are not waited for, and `value`,"
        " `first_seen`, `count` and `severity` are those of the latest violation. A late or repeated reading"
        " is not a change; a snooze and `DISABLE` end the flapping and the count. If the device's clock is"
        " set, by more than a day, the time of calm begins again.\n\n"
        "`sluice rules check FILE` explains a rule set, `sluice rules test` tries it on stored readings.\n"
    )


def groups() -> Iterator[str]:
    """Groups of devices."""
    yield (
        "### Groups of devices\n\n"
        "Where a device could stand in `devices` and `overrides`, `@NAME` stands for the devices of a group,"
        " so that the rule stays the same while the fleet changes:\n"
    )
    yield block(GROUPED)
    yield (
        "The operator keeps the groups of each user, in the table `device_groups` (`user_id`, `group_name`,"
        " `device_id`) or by command:\n\n"
        "```sh not-runnable\n"
        f"sluice groups add {USER} cold-room fridge freezer-1 freezer-2\n"
        f"sluice groups add {USER} deep --from deep.txt    # one id on a line; - is stdin\n"
        f"sluice groups remove {USER} cold-room freezer-2\n"
        f"sluice groups show {USER} cold-room\n"
        "```\n\n"
        "Rules follow a change within a second. If a device leaves the group, its open alert is resolved, as"
        " if the rule did not name it any more. A rule may name a group that has no devices yet: the answer"
        " has a warning, and the rule is about them once there are some. A device may be in several groups;"
        " among those in `overrides` the first by the alphabet counts. `device_id` is the device's own id,"
        f" without the name of a domain. A user has at most {MAX_GROUPS} groups, with {MAX_GROUPED:,} devices"
        " in all of them together. A device whose own id begins with `@` is meant by it, too.\n"
    )


def examples() -> Iterator[str]:
    """Each example with the changes that it makes."""
    yield "### Examples"
    for example in EXAMPLES:
        yield f"\n{example.title}:\n\n{block(example.rule)}"
        yield from table("after | reading | change", map(_row, changes_of(example)))


def _row(happened: tuple[Event, list[Change]]) -> tuple[str, ...]:
    (second, payload), changes = happened
    reading = "nothing comes" if payload is None else f"`{json.dumps(payload)}`"
    return f"{second} s", reading, ", ".join(change.status for change in changes)


def by_operators() -> Iterator[str]:
    """The operator's commands."""
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


def for_everyone() -> Iterator[str]:
    """The operator's rules."""
    yield (
        "## Rules for every user\n\n"
        f"The operator's rules hold for every user, beside the user's own. They are those of the user"
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
        " each user, so many users do not make a burst of work. A task then resolves the open alerts of rules"
        " that are gone. A rule about absence holds for every user in the registry of devices, for a new one"
        " within a minute. The answer on `users/{user}/rules` has these rules after the user's own, in"
        " `operator_rules`.\n"
    )
