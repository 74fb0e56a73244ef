"""Runs of replays in the database: what was requested, how far each got, and which worker owns it.

A run outlives its worker: the next one continues where the last one saved. Only the owner may save, so if two
workers believe to own a run, one of them gets `RunLost`.
"""

import json
import time
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
import structlog

from tasks import registry
from tasks.domain.domain import AnyDomain
from tasks.errors import NotNow
from tasks.servers import database

log = structlog.get_logger()

# After this long without a sign of life a run is taken over: longer than any step between two signs.
OWNED_SECONDS = 90
KEEP_EVERY_SECONDS = 10.0
# How often in a row a run may be taken without progress; a server that is away does not count.
MAX_ATTEMPTS = 20

COLUMNS = "run_id, kind, arguments, positions, counts, started_at, ended_at, error"
BEGIN = "INSERT INTO replays (run_id, kind, arguments) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
TAKE = f"""
UPDATE replays SET owner = %(owner)s, owned_until = now() + {OWNED_SECONDS} * interval '1 s',
    updated_at = now(), attempts = attempts + 1
WHERE run_id = %(run)s AND ended_at IS NULL AND (owned_until IS NULL OR owned_until < now())
RETURNING {COLUMNS}, attempts
"""  # noqa: S608 - our own names
SAVE = f"""
UPDATE replays SET positions = %(positions)s, counts = %(counts)s, updated_at = now(), attempts = 0,
    owned_until = now() + {OWNED_SECONDS} * interval '1 s'
WHERE run_id = %(run)s AND owner = %(owner)s AND owned_until >= now() AND ended_at IS NULL
"""  # noqa: S608 - our own names
END_RUN = """
UPDATE replays SET ended_at = now(), updated_at = now(), error = %(error)s, owned_until = NULL
WHERE run_id = %(run)s AND owner = %(owner)s AND ended_at IS NULL
"""
RELEASE = "UPDATE replays SET owned_until = NULL WHERE run_id = %(run)s AND owner = %(owner)s"
ABANDONED = """
SELECT run_id FROM replays
WHERE ended_at IS NULL
    AND (owned_until < now() OR owned_until IS NULL AND updated_at < now() - interval '20 s')
ORDER BY started_at LIMIT 10
"""
READ = f"SELECT {COLUMNS} FROM replays WHERE run_id = %s"  # noqa: S608 - our own names


class RunLost(NotNow):
    """Another worker has taken the run over, or an operator has ended it."""


class Run(NamedTuple):
    """A run as it is in the database."""

    run_id: str
    kind: str
    arguments: dict[str, Any]
    positions: dict[str, Any]
    counts: dict[str, int]
    started_at: datetime
    ended_at: datetime | None
    error: str | None

    @property
    def report(self) -> dict[str, Any]:
        """The run's report, for users."""
        return {"run": self.run_id, "kind": self.kind, "ended": self.ended_at is not None, **self.counts}


def domain_of(run: "Run | Held") -> AnyDomain:
    """The domain whose messages are replayed. Raises `UnknownDomain`."""
    name = run.arguments.get("domain")
    return registry.default() if name is None else registry.by_name(str(name))


class CannotRun(ValueError):
    """The request is impossible for this topic; another attempt would not change that."""


class Held:
    """A run that this worker owns. `save` keeps `positions` and `counts`."""

    def __init__(self, run: Run, owner: str) -> None:
        self.run_id = run.run_id
        self.kind = run.kind
        self.arguments = run.arguments
        self.positions = run.positions
        self.counts = run.counts
        self._owner = owner
        self._saved = time.monotonic()

    def keep(self) -> None:
        """Stays the owner; call it often while nothing is saved. Raises `RunLost`."""
        if time.monotonic() - self._saved > KEEP_EVERY_SECONDS:
            self.save_alone()

    def save_alone(self) -> None:
        """Keeps positions and counts, in a transaction of their own. Raises `RunLost`."""
        with database.access() as connection:
            self.save(connection)

    def save(self, connection: database.Connection) -> None:
        """Keeps positions and counts, together with what else the caller's transaction writes.

        Raises `RunLost` when the run is no longer this worker's; then the transaction must not commit.
        """
        saved = connection.execute(
            SAVE,
            {
                "run": self.run_id,
                "owner": self._owner,
                "positions": json.dumps(self.positions),
                "counts": json.dumps(self.counts),
            },
        )
        if saved.rowcount != 1:
            raise RunLost(self.run_id)
        self._saved = time.monotonic()

    def end(self, error: str | None = None) -> None:
        """Ends the run; with an error, it was given up."""
        with database.access() as connection:
            connection.execute(END_RUN, {"run": self.run_id, "owner": self._owner, "error": error})

    def release(self) -> None:
        """Lets another worker continue at once. Does nothing without the database: then it must wait."""
        try:
            with database.access() as connection:
                connection.execute(RELEASE, {"run": self.run_id, "owner": self._owner})
        except psycopg.Error as error:
            log.warning("replay_not_released", run=self.run_id, error=str(error).strip())


def begin(connection: database.Connection, run_id: str, kind: str, arguments: dict[str, Any]) -> None:
    """Notes the request; for a known run the first arguments count."""
    connection.execute(BEGIN, [run_id, kind, json.dumps(arguments)])


def take(run_id: str, owner: str) -> Held | None:
    """The run, unless it has ended or another worker owns it. A run without progress is given up."""
    with database.access() as connection:
        row = connection.execute(TAKE, {"run": run_id, "owner": owner}).fetchone()
    if row is None:
        return None
    *columns, attempts = row
    held = Held(_run(columns), owner)
    if isinstance(attempts, int) and attempts > MAX_ATTEMPTS:
        held.end(f"made no progress in {MAX_ATTEMPTS} attempts; see the workers' logs")
        log.error("replay_given_up", run=run_id, attempts=attempts)
        return None
    return held


def read(connection: database.Connection, run_id: str) -> Run | None:
    """The run as it is in the database; None for an unknown id."""
    row = connection.execute(READ, [run_id]).fetchone()
    return None if row is None else _run(list(row))


def abandoned(connection: database.Connection) -> list[str]:
    """Runs that have not ended and that no worker owns."""
    return [str(run_id) for (run_id,) in connection.execute(ABANDONED)]


def _run(columns: list[Any]) -> Run:
    return Run(*columns)
