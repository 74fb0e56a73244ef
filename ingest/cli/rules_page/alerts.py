"""The sections about alerts, and about what users send and get back."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from ingest.cli.rules_page.blocks import block, fields, meanings
from ingest.cli.rules_page.examples import DEVICE, EXAMPLES, USER, changes_of
from ingest.cli.rules_page.meanings import ACTIONS, FIELDS, REASONS, STATUSES
from tasks.outbox import retained
from tasks.rules.answers import Answer, refusal
from tasks.rules.change import Change
from tasks.rules.commands import EXPECTED as EXPECTED_OF_COMMANDS
from tasks.rules.commands import Command, parse_command
from tasks.rules.model import Fault
from tasks.rules.parsing import InvalidDocument, parse_rules
from tasks.rules.queries import EXPECTED as EXPECTED_OF_QUERIES
from tasks.rules.queries import (
    MOST_AT_ONCE,
    PAGE_BYTES,
    AlertsQuery,
    RulesQuery,
    alerts_page,
    rules_page,
)

# The fields of an alert that is read back; it has more only now and then.
COLUMNS = (
    *("alert_id", "status", "device_id", "rule_id", "message", "severity", "key", "operator", "threshold"),
    *("value", "sequence_id", "first_seen", "last_seen", "count"),
)
WRONG_RULES = [{"key": "temperature", "operator": "=>", "threshold": "8", "massage": "too warm"}]
WRONG_COMMAND = {"device_id": DEVICE, "rule_id": "temperature", "action": "DISABLE", "duration_minutes": 5}
SNOOZE = {"device_id": DEVICE, "rule_id": "temperature", "action": "SNOOZE", "duration_minutes": 30}


def alerts() -> Iterator[str]:
    """Changes of alerts: their fields, statuses and reasons."""
    yield (
        "\n## Alerts\n\n"
        "Each change of an alert is published once to `users/{user}/alerts` and is a row of `alert_history`;"
        " `active_alerts` has the current ones. The limit of open alerts is in"
        " [reference.md](reference.md#limits-of-one-user). The first example's alert begins so:\n"
    )
    triggered = _first()
    yield block(json.loads(triggered.to_json()))
    yield from meanings("field", "meaning", FIELDS)
    yield ""
    yield from meanings("`status`", "meaning", STATUSES)
    yield ""
    yield from meanings("`reason`", "meaning", REASONS)


def commands() -> Iterator[str]:
    """Commands about one rule of one device."""
    yield (
        "\n## Commands\n\n"
        "A command is about one rule of one device, and is published to `users/{user}/alerts/manage`:\n"
    )
    yield block(SNOOZE)
    yield from fields(Command, EXPECTED_OF_COMMANDS)
    yield ""
    yield from meanings("`action`", "effect", ACTIONS)
    yield (
        "\nThe age of a command counts from its arrival. A command older than the last executed one changes"
        " nothing. Only an open alert can be acknowledged.\n"
    )


def answers() -> Iterator[str]:
    """Answers to documents and commands."""
    yield (
        "## Answers\n\n"
        "Each document has one answer: rules on `users/{user}/config/status`, commands on"
        " `users/{user}/alerts/manage/status`. Rules that are in force, and a command that was executed:\n"
    )
    yield block(Answer(ok=True, rules=1))
    yield block(Answer(ok=True))
    yield "A refused document changes nothing; the answer names every fault with its path:\n"
    yield block(refusal(_faults(parse_rules, WRONG_RULES)))
    yield block(refusal(_faults(parse_command, WRONG_COMMAND)))


def retained_states() -> Iterator[str]:
    """The messages that the broker retains of open alerts."""
    triggered = _first()
    example = retained.topic(triggered.user_id, triggered.device_id, triggered.rule_id)
    yield (
        "## Retained states\n\n"
        "A dashboard or a panel on the wall wants to know what is open now, without asking. With the"
        " operator's setting `RETAINED_ALERT_STATES=on` the MQTT broker keeps the latest change of each open"
        " alert, retained, on `users/{user}/alerts/state/{device}/{rule}`. Device and rule are"
        " percent-encoded, so that `kitchen/1` is `kitchen%2F1`. A client that subscribes to"
        " `users/{user}/alerts/state/#` gets all of them at once, then every change, and an empty message"
        " when an alert is over. A user may read these topics and not write to them. For example, on"
        f" `{example}`:\n"
    )
    yield block(json.loads(triggered.to_json()))
    yield (
        "A snoozed and an acknowledged alert are open: the state is the change that says so. `RESOLVED` and"
        " `DISABLED` clear it. Sluice publishes each state after the change itself, on the same connection;"
        " a worker that is killed in between leaves the rest to the next one, which begins where the first"
        " was, so a state may come twice and ends right. An alert that was open before the setting was"
        " switched on has a state from its next change. Before `off`, set `clear` for a while: then each"
        " change of an alert removes what the broker keeps of it. For the whole list, at any time and with"
        " every change that was made, see [reading back](#reading-back).\n"
    )


def reading_back() -> Iterator[str]:
    """Queries for rules and open alerts."""
    yield (
        "## Reading back\n\n"
        "A query on `users/{user}/rules/get` asks for the rules in force, one on `users/{user}/alerts/get`"
        " for the open alerts. It is empty, or an object with some of these fields; `device_id` and"
        " `silenced` are about alerts alone:\n"
    )
    yield from fields(AlertsQuery, EXPECTED_OF_QUERIES)
    yield (
        "\nThe answer comes on `users/{user}/rules` or on `users/{user}/alerts/open`. MQTT 5 has a better"
        " place: with a response topic below `users/{user}/` it comes there. A user's account may subscribe"
        " to `users/{user}/responses/#`; for other topics the operator adds rows to `mqtt_acl`, for the"
        " user's account and for Sluice's. If the response topic is another user's, has a meaning of its"
        " own, or is refused by the broker, the usual topic is used. The correlation data come back"
        " in any case. The [tutorial](tutorial.md) asks with `mosquitto_rr`. With `limit` 1 and the `id` 7,"
        " the answer is for example:\n"
    )
    triggered = _first()
    change = json.loads(triggered.to_json())
    alert = {name: change[name] for name in COLUMNS if name in change}
    yield block(Answer(**alerts_page(AlertsQuery(limit=1), USER, [alert, alert]), id="7"))
    yield (
        "An alert has the fields of its latest change and, where they are set, `snoozed_until`,"
        " `acknowledged_at`, `acknowledged_by` and `note`. Every change that was made before the query is"
        f" in the answer. It holds at most {MOST_AT_ONCE} alerts or rules, and {PAGE_BYTES // 1024} KiB, or a"
        " single rule. A cut answer has `next`, which goes into `after` of the next query. Rules come"
        " as they were sent:\n"
    )
    yield block(Answer(**rules_page(RulesQuery(), USER, [EXAMPLES[0].rule]), id="8"))
    yield (
        "Rules in the table that are not valid are not in force: `warnings` names them. Queries count as"
        " requests, of which a user may have `REQUESTS_PER_USER` without an answer, and are done in order"
        " with the user's rules and commands: what was answered before is in the next answer.\n"
    )


def _first() -> Change:
    """The change that triggers the alert of the first example."""
    (triggered,) = [c for _, changes in changes_of(EXAMPLES[0]) for c in changes if c.status == "TRIGGERED"]
    return triggered


def _faults(parse: Callable[[Any], object], document: Any) -> list[Fault]:
    try:
        parse(document)
    except InvalidDocument as error:
        return error.errors
    raise AssertionError(f"the page shows as wrong what is right: {document}")
