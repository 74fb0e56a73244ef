"""Keeps Mosquitto's password and ACL files equal to the tables `mqtt_users` and `mqtt_acl`.

Mosquitto, unlike EMQX, cannot ask a database. `python -m compose.local.mosquitto_auth --help`.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import psycopg
import structlog
import typer

from ingest.admin.accounts.passwords import mosquitto_hash
from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.postgres import Connection, connect
from tasks.observe import logs
from tasks.servers.pauses import pauses

log = structlog.get_logger()

CHANNEL = "sluice_mqtt_auth"
# Beneath the notifications: heals one that was lost, and a broker whose signal was lost.
POLL_SECONDS = 3.0
# Accounts that are made one by one arrive as one reload, and a reload of ten thousand accounts stops the
# broker for a quarter of a second, so there is not one after the other without a pause.
DEBOUNCE_SECONDS = 0.05
MIN_RELOAD_INTERVAL_SECONDS = 0.5
BROKER_START_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 5.0


class User(NamedTuple):
    """A row of `mqtt_users` that may log in."""

    username: str
    password_hash: str
    salt: str
    iterations: int
    is_superuser: bool


class Right(NamedTuple):
    """A row of `mqtt_acl`."""

    username: str
    permission: str
    action: str
    topic: str


class Files(NamedTuple):
    """The files to keep, and where Mosquitto's process id is."""

    passwords: Path
    acl: Path
    pid: Path


def password_file(users: Iterable[User]) -> str:
    """Mosquitto's password file: `name:hash` lines in the order of the names."""
    return "".join(
        f"{user.username}:{mosquitto_hash(user.password_hash, user.salt, user.iterations)}\n"
        for user in sorted(users)
    )


_ACCESS = {"publish": "write", "subscribe": "read", "all": "readwrite"}


def acl_file(users: Iterable[User], rights: Iterable[Right]) -> str:
    """Mosquitto's ACL file. Everything that no line allows is denied."""
    lines: dict[str, list[str]] = {user.username: [] for user in sorted(users)}
    for user in users:
        if user.is_superuser:
            lines[user.username] += ["topic readwrite #", "topic read $SYS/#"]
    for right in sorted(rights):
        access = "deny" if right.permission == "deny" else _ACCESS[right.action]
        if right.username in lines:
            lines[right.username].append(f"topic {access} {right.topic}")
    # Without a single line Mosquitto would allow everything; this one is for clients without a name.
    return "topic deny #\n\n" + "".join(
        f"user {username}\n" + "".join(f"{line}\n" for line in granted) + "\n"
        for username, granted in lines.items()
        if granted
    )


def write_if_changed(path: Path, content: str) -> bool:
    """Replaces the file in one step, readable by its owner only, and returns whether it was different."""
    data = content.encode()
    with suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return False
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return True


def synchronise(connection: Connection, files: Files) -> bool:
    """Writes the files from the tables; returns whether one of them changed."""
    with connection.transaction():
        # both tables as of one moment
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        with connection.cursor(row_factory=psycopg.rows.class_row(User)) as cursor:
            users = cursor.execute(
                "SELECT username, password_hash, salt, iterations, is_superuser FROM mqtt_users WHERE enabled"
            ).fetchall()
        with connection.cursor(row_factory=psycopg.rows.class_row(Right)) as cursor:
            rights = cursor.execute("SELECT username, permission, action, topic FROM mqtt_acl").fetchall()
    # rights first: an account that can log in before its rights are there is denied what it may do
    acl_changed = write_if_changed(files.acl, acl_file(users, rights))
    passwords_changed = write_if_changed(files.passwords, password_file(users))
    if acl_changed or passwords_changed:
        log.info("mosquitto_files_written", accounts=len(users), rights=len(rights))
    return acl_changed or passwords_changed


def reload_broker(pid_file: Path, patience: float = BROKER_START_SECONDS) -> bool:
    """Tells Mosquitto to read its files again. False when it does not run: it reads them when it starts.

    A broker that is just starting is waited for, up to `patience` seconds: until it listens for the
    signal, the signal would end it, and it may have read the old files already.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            pid = int(pid_file.read_text())
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            if name == "mosquitto" and _listens(pid, signal.SIGHUP):
                os.kill(pid, signal.SIGHUP)
                return True
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return False
        time.sleep(0.02)
    log.warning(
        "mosquitto_not_reloaded",
        reason="the process of the pid file does not accept SIGHUP",
        file=str(pid_file),
    )
    return False


def _listens(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & (1 << (number - 1)))


class Stop:
    """Set by SIGTERM and SIGINT; waits that it may cut short."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self.requested = False

    def install(self) -> None:
        """From now on the signals ask for a stop instead of ending the process in the middle of a write."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._request())

    def _request(self) -> None:
        self.requested = True
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def wait(self, seconds: float, *descriptors: int) -> bool:
        """Waits for the stop, a descriptor, or the time, and returns whether a descriptor is ready."""
        ready, _, _ = select.select([self._reader, *descriptors], [], [], max(seconds, 0))
        return any(descriptor in ready for descriptor in descriptors)


def follow(files: Files, stop: Stop, open_connection: Callable[[], Connection] = connect) -> None:
    """Keeps the files in step until `stop`. A database that is away is tried again with back-off."""
    waits = pauses(0.2, MAX_BACKOFF_SECONDS)
    while not stop.requested:
        try:
            with open_connection() as connection:
                connection.execute(f"LISTEN {CHANNEL}")
                log.info("mosquitto_auth_listens")
                waits = pauses(0.2, MAX_BACKOFF_SECONDS)
                _follow(connection, files, stop)
        except (ServerAway, psycopg.Error) as error:
            pause = next(waits)
            log.warning("mosquitto_auth_waits", error=str(error).strip(), again_in_s=pause)
            stop.wait(pause)


def _follow(connection: Connection, files: Files, stop: Stop) -> None:
    reloaded_at = float("-inf")
    # What arrives while a query runs never makes the socket readable, so it is noted here.
    arrived: list[psycopg.Notify] = []
    connection.add_notify_handler(arrived.append)
    while not stop.requested:
        connection.execute("SELECT")  # takes in what has arrived so far; the query below sees its changes
        arrived.clear()
        if synchronise(connection, files) and reload_broker(files.pid):
            reloaded_at = time.monotonic()
            log.info("mosquitto_reloaded")
        if arrived or stop.wait(POLL_SECONDS, connection.fileno()):
            stop.wait(max(DEBOUNCE_SECONDS, reloaded_at + MIN_RELOAD_INTERVAL_SECONDS - time.monotonic()))


def main(
    password_file: Annotated[Path, typer.Option(help="Mosquitto's password_file.")],
    acl_file: Annotated[Path, typer.Option(help="Mosquitto's acl_file.")],
    pid_file: Annotated[Path, typer.Option(help="File with Mosquitto's process id.")],
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Write the files, signal Mosquitto, and exit.")
    ] = False,
) -> None:
    """Write Mosquitto's password and ACL files from DATABASE_URL, and again at every change, until SIGTERM.

    DATABASE_URL must be a direct connection: PgBouncer in transaction mode passes no notifications on.
    """
    logs.configure()
    files = Files(password_file, acl_file, pid_file)
    stop = Stop()
    stop.install()
    if not once:
        follow(files, stop)
        return
    try:
        with connect() as connection:
            if synchronise(connection, files):
                reload_broker(files.pid)
    except OperatorError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    typer.run(main)
