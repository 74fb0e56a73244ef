"""Five rules for each user of the backlog, of which one reading in a hundred violates one."""

import json
import time

import psycopg

from compose.local.stack import Stack

# Of `temperature`, which is uniform from -20 to 45, one reading in a hundred is above the first threshold.
RULES = [
    {"key": "temperature", "operator": ">", "threshold": 44.35, "message": "hot"},
    {"key": "battery", "operator": "<", "threshold": 0, "message": "never"},
    {"key": "rssi", "operator": ">", "threshold": 0, "message": "never"},
    {"key": "location.lat", "operator": ">", "threshold": 90, "message": "never"},
    {"key": "tags.0", "operator": "==", "threshold": 1, "message": "never: it is no number"},
]
# Rules that come by SQL are in force within a second.
KNOWN_SECONDS = 2.0


def set_rules(stack: Stack, devices: int) -> None:
    """Gives the rules to every user of so many devices."""
    _change(
        stack,
        "INSERT INTO user_configs (user_id, rules) SELECT unnest(%s::text[]), %s::text::jsonb",
        [[f"user{number}" for number in range(devices // 10 + 1)], json.dumps(RULES)],
    )


def clear(stack: Stack) -> None:
    """Takes all rules away, and what they have told."""
    _change(stack, "DELETE FROM user_configs", [])
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        connection.execute("TRUNCATE active_alerts, alert_history")


def changes(stack: Stack) -> int:
    """How many changes of alerts the history has."""
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"]) as connection:
        found = connection.execute("SELECT count(*) FROM alert_history").fetchone()
    return int(str(found[0])) if found else 0


def _change(stack: Stack, query: str, values: list[object]) -> None:
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        connection.execute(query, values)
    time.sleep(KNOWN_SECONDS)
