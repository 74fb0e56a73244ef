"""Five rules for each user of the backlog, of which one reading in a hundred violates one."""

import json
import time

import psycopg

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

Connection = psycopg.Connection[tuple[object, ...]]


def set_rules(connection: Connection, users: list[str]) -> None:
    """Gives the rules to every user; returns when they are in force."""
    clear(connection)
    insert = "INSERT INTO user_configs (user_id, rules) SELECT unnest(%s::text[]), %s::text::jsonb"
    connection.execute(insert, [users, json.dumps(RULES)])
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
