"""A backup of Sluice's database and its restore, by the steps of docs/operate.md."""

import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from compose.local.passwords import password
from compose.local.stack import Stack

SECONDS = 120


def dump(stack: Stack, into: Path) -> None:
    """Writes a backup, while everything runs."""
    with into.open("wb") as output:
        _run(stack, "pg_dump", "--format=custom", superuser_url(stack), output=output)


def restore(stack: Stack, backup: Path) -> None:
    """Replaces the database by the backup; nothing of Sluice runs."""
    name = sql.Identifier(urlsplit(stack.env["DATABASE_DIRECT_URL"]).path[1:])
    with psycopg.connect(superuser_url(stack, "postgres"), autocommit=True) as server:
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        server.execute(sql.SQL("CREATE DATABASE {} OWNER sluice").format(name))
    with psycopg.connect(superuser_url(stack), autocommit=True) as database:
        database.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        database.execute("SELECT timescaledb_pre_restore()")
    with backup.open("rb") as given:
        _run(stack, "pg_restore", "--exit-on-error", f"--dbname={superuser_url(stack)}", given=given)
    with psycopg.connect(superuser_url(stack), autocommit=True) as database:
        database.execute("SELECT timescaledb_post_restore()")


def superuser_url(stack: Stack, database: str = "") -> str:
    """The superuser's URL of Sluice's database, or of another."""
    parts = urlsplit(stack.env["DATABASE_DIRECT_URL"])
    secret = password(stack.layout, "postgres-superuser")
    path = f"/{database}" if database else parts.path
    return parts._replace(netloc=f"postgres:{secret}@{parts.hostname}:{parts.port}", path=path).geturl()


def _run(stack: Stack, program: str, *arguments: str, output: object = None, given: object = None) -> None:
    done = subprocess.run(
        [str(stack.layout.base / "bin" / program), *arguments],
        stdin=given,  # type: ignore[call-overload]
        stdout=output or subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
