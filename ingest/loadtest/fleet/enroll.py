"""Credentials of simulated devices: made for a run, removed after it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from ingest.admin import postgres
from ingest.admin.accounts import provision
from ingest.admin.errors import OperatorError
from ingest.loadtest.fleet.fleet import Login


class NotEnrolled(OperatorError):
    """The database refuses the devices' credentials. Has `sluice migrate` run?"""


def run_name(kind: str) -> str:
    """A prefix for the user ids of one run, so that runs do not meet each other's devices."""
    return f"{kind}-{secrets.token_hex(3)}"


def enroll(database_url: str, run: str, users: int, devices_per_user: int) -> list[Login]:
    """Makes the credentials of all devices of a run. Raises `ingest.admin.errors.OperatorError`."""
    names = [
        (f"{run}-u{user}", f"d{device}")
        for user in range(1, users + 1)
        for device in range(1, devices_per_user + 1)
    ]
    with postgres.connect(database_url) as connection, _database_errors():
        credentials = provision.provision_devices(connection, names)
    return [Login(*name, *credential) for name, credential in zip(names, credentials, strict=True)]


def dismiss(database_url: str, logins: list[Login]) -> None:
    """Removes the credentials; the devices' messages stay. Raises `OperatorError`."""
    with postgres.connect(database_url) as connection, _database_errors(), connection.transaction():
        for login in logins:
            provision.remove(connection, login.username)


@contextmanager
def _database_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise NotEnrolled(f"{NotEnrolled.__doc__} {' '.join(str(error).split())}") from error
