"""The command `sluice provision`, as an operator or a script runs it."""

import csv
import json
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, passwords, provision
from ingest.admin.accounts.passwords import InvalidPassword
from ingest.admin.accounts.provision import Credential
from tests.integration.commands import sluice
from tests.integration.mqtt_session import await_honoured

Database = psycopg.Connection[tuple[Any, ...]]


def provisioned(stack: Stack, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs `sluice provision` as an operator does."""
    return sluice(stack, "provision", *arguments, **more)


@pytest.fixture
def run() -> str:
    """A prefix that no other test uses."""
    return uuid4().hex[:8]


def test_the_command_prints_json_and_nothing_else(stack: Stack, run: str) -> None:
    """`--json` gives a script exactly the credential, and it works."""
    done = provisioned(stack, "device", run, "d1", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    printed = json.loads(done.stdout)
    assert set(printed) == {"username", "password"}
    assert len(printed["password"]) >= 32
    await_honoured(stack, Credential(**printed))


def test_a_given_password_comes_by_stdin(stack: Stack, database: Database, run: str) -> None:
    """A password of one's own is read from stdin, the same twice; a weak one is refused."""
    secret = passwords.generate_password()
    for _ in range(2):
        done = provisioned(stack, "service", run, "--json", "--password-stdin", stdin=f"{secret}\n")
        assert json.loads(done.stdout) == {"username": run, "password": secret}
    await_honoured(stack, Credential(run, secret))
    weak = provisioned(stack, "service", run, "--password-stdin", stdin="short\n")
    assert (weak.returncode, weak.stdout) == (1, "")
    assert "at least 16 characters" in weak.stderr
    with pytest.raises(InvalidPassword):
        provision.provision(database, accounts.service(run), "short")


def test_the_list_shows_accounts_without_secrets(stack: Stack, run: str) -> None:
    """`list` names each account and its kind; neither password nor hash is in it."""
    credential = json.loads(provisioned(stack, "user", run, "--json").stdout)
    listed = provisioned(stack, "list", "--json").stdout
    found = [account for account in json.loads(listed) if account["username"] == run]
    assert [account["kind"] for account in found] == ["user"]
    assert credential["password"] not in listed
    assert "hash" not in listed
    removed = provisioned(stack, "remove", run)
    assert removed.returncode == 0, removed.stderr
    assert provisioned(stack, "remove", run).returncode == 1


def test_an_id_that_breaks_a_topic_is_refused_with_a_sentence(stack: Stack, run: str) -> None:
    """The command names what is wrong with the id, exits with 1 and shows no traceback."""
    done = provisioned(stack, "device", run, "a/b")
    assert (done.returncode, done.stdout) == (1, "")
    assert "The device id must not contain '/'" in done.stderr
    assert "Traceback" not in done.stderr


def test_accounts_that_are_there_get_the_rights_of_a_new_domain(
    stack: Stack, database: Database, run: str
) -> None:
    """`rights` adds what the domains ask for, keeps passwords and what was given by hand, and ends there."""
    credential = Credential(**json.loads(provisioned(stack, "device", run, "d1", "--json").stdout))
    by_hand = (
        "INSERT INTO mqtt_acl (username, permission, action, topic) VALUES (%s, 'allow', 'subscribe', 'x')"
    )
    database.execute(by_hand, [credential.username])
    more = {"DOMAINS": "tasks.telemetry,examples.logistics,examples.finance"}
    for expected in ("rights given", "0 rights given"):
        done = provisioned(stack, "rights", **more)
        assert (done.returncode, expected in done.stderr) == (0, True), done.stderr
    query = "SELECT action, topic FROM mqtt_acl WHERE username = %s ORDER BY topic"
    assert database.execute(query, [credential.username]).fetchall() == [
        ("subscribe", f"users/{run}/devices/d1/rejected"),
        ("publish", f"users/{run}/devices/d1/telemetry"),
        ("publish", f"users/{run}/packages/d1/status"),
        ("subscribe", "x"),
    ]
    await_honoured(stack, credential)
    database.execute(
        "DELETE FROM mqtt_acl WHERE topic LIKE '%/packages/%' OR topic LIKE 'markets/%' OR topic = 'x'"
    )


def test_a_file_makes_all_of_its_accounts_or_none(stack: Stack, run: str, tmp_path: Path) -> None:
    """Those that are there keep their passwords; the file with the others' is for its owner alone."""
    there = json.loads(provisioned(stack, "device", run, "d0", "--json").stdout)
    lines = "".join(f"{run},d{number}\n" for number in range(1500))
    wrong = provisioned(stack, "csv", "-", stdin=f"user,device\n{lines}{run},a+b\n")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "line 1502" in wrong.stderr
    out = tmp_path / "passwords.csv"
    done = provisioned(stack, "csv", "-", "--out", str(out), stdin=f"user,device\n{lines}")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "1499 accounts made" in done.stderr
    assert "1 account left as they were" in done.stderr
    assert out.stat().st_mode & 0o777 == 0o600
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["device"] for row in rows] == [f"d{number}" for number in range(1, 1500)]
    for username, password in ((rows[-1]["username"], rows[-1]["password"]), there.values()):
        await_honoured(stack, Credential(username, password))
    again = provisioned(stack, "csv", "-", "--out", str(out), stdin=f"user,device\n{lines}")
    assert (again.returncode, "takes a new file" in again.stderr) == (1, True)
    assert (
        len(provisioned(stack, "csv", "-", "--rotate", stdin=f"user,device\n{lines}").stdout.split()) == 1501
    )
