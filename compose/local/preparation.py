"""Prepares servers for Sluice: the database and its schema, the account, the topics."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from compose.local.errors import StackError
from compose.local.layout import PROJECT, Layout
from compose.local.passwords import password

_SECONDS = 120


def database(layout: Layout, env: Mapping[str, str]) -> str:
    """Makes the role and the database `sluice` in our own server, and the extension.

    What exists stays; the role's password becomes the one of the env file. Returns what keeps the
    server from answering, or nothing when all is made.
    """
    secret = password(layout, "postgres")
    role = sql.Identifier("sluice")
    try:
        with _superuser(layout, env, "postgres") as server:
            if not server.execute("SELECT FROM pg_roles WHERE rolname = 'sluice'").rowcount:
                server.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB").format(role))
            # Hashed here, so that the password is in no statement that the server might log.
            hashed = server.pgconn.encrypt_password(secret.encode(), b"sluice", b"scram-sha-256").decode()
            server.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(hashed)))
            if not server.execute("SELECT FROM pg_database WHERE datname = 'sluice'").rowcount:
                server.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
        with _superuser(layout, env, "sluice") as server:
            server.execute("SET client_min_messages = warning")
            server.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.OperationalError as error:
        return str(error).strip()
    return ""


def migrate(env: Mapping[str, str]) -> None:
    """Brings the schema up to date."""
    _sluice(env, "migrate")


def topics(env: Mapping[str, str]) -> None:
    """Makes the Kafka topics."""
    _sluice(env, "topics")


def service_account(env: Mapping[str, str], name: str, secret: str) -> str:
    """Gives Sluice its MQTT account with this password; returns the user name."""
    text = _sluice(env, "provision", "service", name, "--json", "--password-stdin", stdin=secret)
    return str(json.loads(text)["username"])


def rights(env: Mapping[str, str]) -> None:
    """Gives the accounts the rights that they lack in the domains."""
    _sluice(env, "provision", "rights")


def process_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a program of Sluice's runs against this stack."""
    here = Path(sys.executable).parent
    return {**os.environ, **env, "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def _superuser(layout: Layout, env: Mapping[str, str], database: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host="127.0.0.1",
        port=env["POSTGRES_PORT"],
        user="postgres",
        password=password(layout, "postgres-superuser"),
        dbname=database,
        autocommit=True,
        connect_timeout=3,
    )


def run_sluice(
    arguments: Sequence[str], env: Mapping[str, str], stdin: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command of `sluice`, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ingest.cli", *arguments],
        env=dict(env),
        cwd=PROJECT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )


def _sluice(env: Mapping[str, str], *arguments: str, stdin: str = "") -> str:
    try:
        done = run_sluice(arguments, process_environment(env), stdin)
    except subprocess.TimeoutExpired as error:
        raise StackError(f"`sluice {arguments[0]}` did not end in {_SECONDS} s") from error
    if done.returncode:
        raise StackError(f"`sluice {arguments[0]}` failed:\n{done.stderr.strip()}")
    return done.stdout
