"""Each command of the runbook does what an operator at night expects of it: it is there, and it runs."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from tests.conftest import PROJECT
from tests.doc_commands import code
from tests.integration.commands import sluice
from tests.integration.fleet import wait_until

Database = psycopg.Connection[tuple[Any, ...]]

PAGE = PROJECT / "docs" / "runbook.md"
# What a piece of code in a sentence begins with that is a command.
PROGRAMS = re.compile(r"(sluice|redis-cli|mosquitto_\w+|docker|kafka-\w+|chronyc|timedatectl|SELECT)( |$)")

# By command what is added to it here: a stack that tests share has letters and rules of others.
RUN: dict[str, str] = {
    "sluice status": "",
    "sluice topics": "",
    "sluice verify": "--since 1s",
    "sluice rules check --stored": "",
    "sluice health notify": "",
    "sluice health worker --ready": "",
    "sluice dlq list --domain NAME --until 14d": "",
    "sluice dlq list --error-type NoticeRefused": "",
    "sluice dlq list --error-type UnknownOwner": "",
    "sluice dlq replay": "--user USER --dry-run",
    "sluice dlq replay --until 14d": "--user USER",
    "sluice dlq acknowledge --until 14d": "--user USER",
    "sluice dlq acknowledge --error-type NoticeRefused": "--user USER",
    "sluice channels list": "",
    "sluice channels log USER NAME": "",
    "sluice channels retry USER NAME": "",
    "sluice provision device": "USER probe",
    "redis-cli info memory": "",
    "redis-cli info server": "",
    "SELECT count(*) FROM pg_stat_activity": "",
    "SELECT domain, to_timestamp(hour * 3600), min(marked_at) FROM rollup_marks GROUP BY 1, 2 ORDER BY 3": "",
    "mosquitto_pub -q 1": "",
}
# These find fault with the stack, which other tests may have left so.
MAY_FIND_FAULT = {"sluice status", "sluice rules check --stored"}
NOT_RUN: dict[str, str] = {
    "sluice channels test USER NAME": "it sends to where the channel leads: test_channels_command.py has one",
    "redis-cli config set maxmemory": "it changes Redis for all tests: test_full_redis.py does that",
    "docker compose ps": "there is no Docker here: `make docker-test`",
    "kafka-configs --describe": "it is a program of Kafka's, where Kafka runs",
    "chronyc tracking": "it is about the clock of the operator's machine",
    "timedatectl": "it is about the clock of the operator's machine",
}


def commands() -> list[str]:
    """Every command in the sentences of the page, once."""
    return sorted({one for one in code(PAGE) if PROGRAMS.match(one)})


def test_every_command_is_run_or_has_a_reason() -> None:
    """None is new without a place here, and none is here that the page has no longer."""
    assert not RUN.keys() & NOT_RUN.keys()
    assert set(commands()) == RUN.keys() | NOT_RUN.keys()
    # Whatever else looks like a command is one that `PROGRAMS` lacks.
    words = {one for one in code(PAGE) if re.match(r"[a-z][a-z-]+ -", one)}
    assert words <= set(commands())


@pytest.fixture
def user(database: Database) -> str:
    """A user that no other test has, with a channel."""
    name = f"u{uuid4().hex[:8]}"
    database.execute(
        "INSERT INTO channels (user_id, name, kind, target, secret, enabled)"
        " VALUES (%s, 'hook', 'webhook', 'https://example.com/', 'sssssssssssssssssss', false)",
        [name],
    )
    return name


@pytest.fixture
def served(pipeline: Stack) -> Iterator[Stack]:
    """A stack with the process of the channels, which most tests do not need."""
    pipeline.up(["notify"], prepare=False)
    try:
        wait_until(lambda: sluice(pipeline, "health", "notify").returncode == 0, 90, "notify to be ready")
        yield pipeline
    finally:
        pipeline.stop("notify")


def test_the_commands_of_the_runbook_run(served: Stack, database: Database, user: str) -> None:
    """As the page has them, with their placeholders filled in; each says something."""
    wrong = {}
    for command, added in RUN.items():
        if command.startswith("SELECT"):
            assert database.execute(command.encode()).description
            continue
        name = "hook" if "channels" in command else "telemetry"
        words = shlex.split(f"{command} {added}".replace("NAME", name).replace("USER", user))
        done = sluice(served, *words[1:]) if words[0] == "sluice" else client(served, user, words)
        allowed = {0, 1} if command in MAY_FIND_FAULT else {0}
        said = done.stdout + done.stderr
        if done.returncode not in allowed or "Traceback" in said or not said:
            wrong[command] = (done.returncode, said)
    assert wrong == {}


def client(stack: Stack, user: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    """One of the servers' own clients, which the stack has in its folder `bin`."""
    env = stack.env
    if words[0] == "redis-cli":
        words = [words[0], "-u", env["REDIS_URL"], "--no-auth-warning", *words[1:]]
    else:
        made = sluice(
            stack, "provision", "device", user, "publisher", "--password-stdin", stdin="a-password-of-mine"
        )
        assert made.returncode == 0, made.stderr
        topic = f"users/{user}/devices/publisher/telemetry"
        words += ["-d", "-h", env["MQTT_HOST"], "-p", env["MQTT_PORT"], "-u", f"{user}/publisher"]
        words += ["-P", "a-password-of-mine", "-t", topic, "-m", '{"sequence_id": 1, "temperature": 4.5}']
    program = stack.layout.base / "bin" / words[0]
    if words[0] == "mosquitto_pub":
        # The broker knows a new account after a moment.
        wait_until(lambda: run(program, words).returncode == 0, 60, "the account to be let in")
    return run(program, words)


def run(program: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs the client with these arguments behind its name."""
    return subprocess.run([program, *words[1:]], capture_output=True, text=True, check=False, timeout=60)
