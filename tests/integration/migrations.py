"""Migrations of a database of the test's own, and connections to it."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from compose.local.passwords import password
from compose.local.stack import Stack
from ingest.admin.servers import migrate
from tests.conftest import PROJECT
from tests.integration import forked

Database = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def connected(conninfo: str) -> Iterator[Database]:
    """A connection that commits each statement."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


def run(conninfo: str, folder: Path = migrate.SQL_DIR) -> tuple[int, list[str]]:
    """Migrates by a connection of its own; how many ran, and what was told."""
    told: list[str] = []
    with connected(conninfo) as connection:
        return migrate.migrate(connection, migrate.load(folder), told.append), told


def superuser(stack: Stack, conninfo: str) -> str:
    """The conninfo of the same database for the server's superuser."""
    return make_conninfo(conninfo, user="postgres", password=password(stack.layout, "postgres-superuser"))


def sluice(conninfo: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as an operator does."""
    return forked.run(
        "ingest.cli",
        *arguments,
        env={
            **os.environ,
            "SLUICE_ENV_FILE": os.devnull,
            "DATABASE_URL": conninfo,
            "DATABASE_DIRECT_URL": "",
            **settings,
        },
        cwd=PROJECT,
    )
