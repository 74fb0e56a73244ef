"""Rules for each user of the backlog: by default five, of which one reading in a hundred violates one."""

import json
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any, LiteralString

import psycopg

from tasks.rules.everyone import EVERYONE

# Of `temperature`, which is uniform from -20 to 45, one reading in a hundred is above the first threshold.
RULES = [
    {"key": "temperature", "operator": ">", "threshold": 44.35, "message": "hot"},
    {"key": "battery", "operator": "<", "threshold": 0, "message": "never"},
    {"key": "rssi", "operator": ">", "threshold": 0, "message": "never"},
    {"key": "location.lat", "operator": ">", "threshold": 90, "message": "never"},
    {"key": "tags.0", "operator": "==", "threshold": 1, "message": "never: it is not a number"},
]
# A rule of each kind that hardly ever begins an alert. Most readings violate the last, which waits for a day.
_KINDS: list[dict[str, Any]] = [
    {"key": "temperature", "operator": ">", "threshold": 44.99},
    {"key": "battery", "operator": "<", "threshold": 0, "for_seconds": 60},
    {
        "all": [
            {"key": "temperature", "operator": "<", "threshold": -10},
            {"key": "location.lat", "operator": ">", "threshold": 90},
        ]
    },
    {
        "any": [
            {"key": "rssi", "operator": ">", "threshold": 0},
            {"key": "firmware", "operator": "==", "threshold": "1.0"},
        ]
    },
    {"key": "temperature", "change": "delta", "operator": ">", "threshold": 80},
    {"key": "firmware", "operator": "in", "threshold": ["0.9", "0.8"]},
    {"key": "temperature", "operator": ">", "threshold": 99, "overrides": {"device1*": {"threshold": 98}}},
    {"key": "rssi", "operator": ">", "threshold": 0, "for_readings": 3, "devices": ["device*7", "device12"]},
    {
        "key": "temperature",
        "operator": ">",
        "threshold": 60,
        "clear_threshold": 50,
        "escalate": [{"severity": "critical", "threshold": 80}],
    },
    {"key": "battery", "operator": ">", "threshold_key": "temperature", "for_seconds": 86_400},
]
# Rules that come by SQL are in force within a second.
KNOWN_SECONDS = 2.0
INSERT: LiteralString = """
INSERT INTO user_configs (user_id, rules) SELECT unnest(%s::text[]), %s::text::jsonb
"""

Connection = psycopg.Connection[tuple[object, ...]]


def of_these_kinds(count: int) -> list[dict[str, Any]]:
    """So many rules, of these kinds in turn, each with an id of its own; hardly any alert begins."""
    chosen = enumerate(islice(cycle(_KINDS), count))
    return [{**rule, "id": f"rule-{number}", "message": f"rule {number}"} for number, rule in chosen]


def set_rules(
    connection: Connection,
    users: list[str],
    chosen: Sequence[Mapping[str, object]] = RULES,
    operators: Sequence[Mapping[str, object]] = (),
) -> None:
    """Gives the rules to every user, and the operator's to all; returns when they are in force."""
    clear(connection)
    connection.execute(INSERT, [users, json.dumps(chosen)])
    if operators:
        connection.execute(INSERT, [[EVERYONE], json.dumps(operators)])
    time.sleep(KNOWN_SECONDS)


def clear(connection: Connection) -> None:
    """Takes all rules away, and what they have told."""
    connection.execute("DELETE FROM user_configs")
    forget(connection)


def forget(connection: Connection) -> None:
    """Removes what the alerts have told."""
    connection.execute("TRUNCATE active_alerts, alert_history")


def changes(connection: Connection) -> int:
    """How many changes of alerts the history has."""
    found = connection.execute("SELECT count(*) FROM alert_history").fetchone()
    return int(str(found[0])) if found else 0
