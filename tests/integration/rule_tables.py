"""Rules written straight into the table."""

import json
from typing import Any

import psycopg

from ingest.admin.rulesets import rules_check

Database = psycopg.Connection[tuple[Any, ...]]


def write(database: Database, user: str, rules: list[dict[str, Any]]) -> None:
    """Rules by plain SQL."""
    database.execute(
        "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)"
        " ON CONFLICT (user_id) DO UPDATE SET rules = EXCLUDED.rules",
        [user, json.dumps(rules)],
    )


def write_unchecked(database: Database, user: str, rules: list[Any]) -> None:
    """Rules as they may stand in a table from before the check."""
    with database.transaction():
        database.execute("ALTER TABLE user_configs DROP CONSTRAINT user_configs_rules_hold")
        write(database, user, rules)
        database.execute(rules_check.sql())
