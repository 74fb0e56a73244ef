"""The database's least-privileged roles: made here, given their rights by `sql/0099_rights.always.sql`."""

import psycopg
from psycopg import sql

from ingest.admin.errors import OperatorError
from ingest.admin.postgres import Connection

# By name: who logs in with it.
ROLES = {
    "sluice_writer": "the workers and the control process: adds readings, keeps rules and alerts",
    "sluice_reader": "analysts and dashboards: reads readings, rollups, alerts and the registry of devices",
    "sluice_emqx": "EMQX: reads the MQTT accounts and their rights",
    "sluice_web": "the HTTP API: reads what it shows, writes MQTT accounts and their rights",
}


class RolesRefused(OperatorError):
    """The role of the connection may not make roles."""


def create(connection: Connection) -> list[str]:
    """Makes the roles that do not exist, each without a password, and returns their names.

    Raises `RolesRefused`.
    """
    made = []
    for name in ROLES:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).rowcount:
            continue
        try:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        except psycopg.errors.DuplicateObject:  # another process created it first
            continue
        except psycopg.errors.InsufficientPrivilege as error:
            raise RolesRefused(
                f"The role of this connection is not allowed to create the role {name}. Let a superuser run:"
                f" CREATE ROLE {name} LOGIN, and then run `sluice migrate`."
            ) from error
        made.append(name)
    return made


def set_password(connection: Connection, name: str, password: str) -> None:
    """Gives the role its password, which reaches the server only as a hash. Raises `RolesRefused`."""
    hashed = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    statement = sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(hashed))
    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        raise RolesRefused(
            f"The role of this connection is not allowed to set the password of {name}."
        ) from error
