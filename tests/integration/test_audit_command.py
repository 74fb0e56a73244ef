"""`sluice audit`: what operators have changed, who it was, and when."""

import json
import os
import pwd
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from compose.local.stack import Stack
from tests.integration.commands import sluice

Database = psycopg.Connection[tuple[Any, ...]]

ME = pwd.getpwuid(os.getuid()).pw_name


def trail(stack: Stack, key: str) -> list[dict[str, Any]]:
    """The lines about one account, user or run."""
    done = sluice(stack, "audit", "--since", "10m", "--limit", "100000", "--json")
    assert done.returncode == 0, done.stderr
    return [line for line in json.loads(done.stdout) if line["key"] == key]


def test_accounts_and_rights_are_in_the_trail_without_a_hash(stack: Stack, database: Database) -> None:
    """Made, given another password, removed: each by whom, and no secret in any of it."""
    user, begin = uuid4().hex[:8], datetime.now(UTC)
    passwords = [
        json.loads(sluice(stack, "provision", "user", user, "--json").stdout)["password"] for _ in range(2)
    ]
    (hashed,) = (
        database.execute("SELECT password_hash FROM mqtt_users WHERE username = %s", [user]).fetchone() or ()
    )
    assert sluice(stack, "provision", "remove", user).returncode == 0
    lines = trail(stack, user)
    accounts = [line for line in lines if line["subject"] == "mqtt_users"]
    assert [line["action"] for line in accounts] == ["INSERT", "UPDATE", "DELETE"]
    assert accounts[1]["after"]["password"] == "new"  # noqa: S105 - that it is another
    assert {line["action"] for line in lines if line["subject"] == "mqtt_acl"} == {"INSERT", "DELETE"}
    (role,) = database.execute("SELECT session_user").fetchone() or ()
    assert {(line["role"], line["os_user"]) for line in lines} == {(role, ME)}
    assert all(begin <= datetime.fromisoformat(line["at"]) <= datetime.now(UTC) for line in lines)
    whole = json.dumps(lines)
    assert not any(secret in whole for secret in (hashed, *passwords, "password_hash", "salt"))
    plain = sluice(stack, "audit", "--since", "10m", "--limit", "100000").stdout
    assert f'DELETE mqtt_users "{user}"' in plain


def test_rules_by_sql_are_in_the_trail_and_users_own_are_not(stack: Stack, database: Database) -> None:
    """The state before and the state now; a user's rules come by the workers, which are not operators."""
    user = uuid4().hex[:8]
    rules = [{"key": "temperature", "operator": ">", "threshold": 8, "message": "warm"}]
    set_rules = (
        "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)"
        " ON CONFLICT (user_id) DO UPDATE SET rules = excluded.rules, updated_at = now()"
    )
    worker = make_conninfo(stack.env["DATABASE_DIRECT_URL"], application_name="sluice-worker")
    with psycopg.connect(worker, autocommit=True) as connection:
        connection.execute(set_rules, [user, Jsonb(rules)])
    for _ in range(2):
        database.execute(set_rules, [user, Jsonb([])])
    database.execute("DELETE FROM user_configs WHERE user_id = %s", [user])
    lines = trail(stack, user)
    assert [(line["action"], line["os_user"]) for line in lines] == [("UPDATE", None), ("DELETE", None)]
    assert (lines[0]["before"]["rules"], lines[0]["after"]["rules"]) == (rules, [])


def test_dead_letters_and_runs_that_are_changed_by_sql_are_in_the_trail(
    stack: Stack, database: Database
) -> None:
    """A line for each run, with how many letters; what workers do about them is in the tables alone."""
    run = uuid4().hex
    insert = (
        "INSERT INTO replayed_letters (letter_key, record_ms, run_id)"
        " SELECT %s || n, 0, %s FROM generate_series(1, 3) n"
    )
    database.execute(insert, [run, run])
    database.execute("DELETE FROM replayed_letters WHERE run_id = %s", [run])
    database.execute("INSERT INTO replays (run_id, kind, arguments) VALUES (%s, 'ranges', '{}')", [run])
    database.execute("UPDATE replays SET ended_at = now() WHERE run_id = %s", [run])
    worker = make_conninfo(stack.env["DATABASE_DIRECT_URL"], application_name="sluice-worker")
    with psycopg.connect(worker, autocommit=True) as connection:
        connection.execute(insert, [run, run])
        connection.execute("DELETE FROM replayed_letters WHERE run_id = %s", [run])
        connection.execute("UPDATE replays SET attempts = 3 WHERE run_id = %s", [run])
    lines = trail(stack, run)
    assert [(line["action"], line["subject"]) for line in lines] == [
        ("INSERT", "replayed_letters"),
        ("DELETE", "replayed_letters"),
        ("INSERT", "replays"),
        ("UPDATE", "replays"),
    ]
    assert [line["after"] for line in lines[:2]] == [{"letters": 3}] * 2
    assert (lines[3]["before"]["ended_at"], bool(lines[3]["after"]["ended_at"])) == (None, True)
    database.execute("DELETE FROM replays WHERE run_id = %s", [run])


def test_a_migration_is_in_the_trail(database: Database) -> None:
    """By its name, with who ran it."""
    query = "SELECT action, os_user FROM operator_audit WHERE subject = %s AND after ->> 'name' = %s"
    assert database.execute(query, ["sluice_migrations", "audit_of_letters"]).fetchall() == [("INSERT", ME)]


def test_a_replay_is_in_the_trail_with_who_asked_for_it(pipeline: Stack) -> None:
    """Twice: as the command asked, and as a worker began."""
    user = uuid4().hex[:8]
    done = sluice(pipeline, "dlq", "replay", "--user", user, "--json")
    assert done.returncode == 0, done.stderr
    lines = trail(pipeline, json.loads(done.stdout)["run"])
    assert {line["action"]: line["os_user"] for line in lines} == {"REPLAY": ME, "INSERT": None}
    assert {line["after"].get("user", user) for line in lines} == {user}
