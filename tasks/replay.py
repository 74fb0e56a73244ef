"""Replay: dead letters back through the pipeline, or a range of its topic once more, domain by domain.

Started by `celery -A tasks call`, each task returns its report. A run is kept in the database under the id of
its task; when its worker dies, beat makes another one continue. A replay raises no alerts unless asked to.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import structlog
from celery import Task
from celery.exceptions import Ignore
from confluent_kafka import KafkaException
from redis import RedisError

from tasks import registry
from tasks.app import app
from tasks.dead_letters import unhandled
from tasks.dead_letters.letter import Filters
from tasks.errors import NotNow
from tasks.replays import dead_letters as letters_work
from tasks.replays import ranges as ranges_work
from tasks.replays import runs
from tasks.replays.dead_letters import MOST_LETTERS
from tasks.replays.runs import CannotRun, Held
from tasks.servers import database
from tasks.text.times import parse_moment

log = structlog.get_logger()

TASK_SECONDS = 86_400
RETRIES = 8
MOST_PAUSE_SECONDS = 60

_AWAY = (NotNow, psycopg.Error, KafkaException, RedisError)
_WORK: dict[str, Callable[[Held], None]] = {
    "dead_letters": letters_work.replay,
    "ranges": ranges_work.replay,
}
_TASK: dict[str, Any] = {"bind": True, "ignore_result": False, "time_limit": TASK_SECONDS}


@app.task(name="tasks.replay.dead_letters", **_TASK)
def dead_letters(
    self: "Task[..., Any]",
    *,
    domain: str | None = None,
    error_type: str | None = None,
    since: str | None = None,
    until: str | None = None,
    user: str | None = None,
    device: str | None = None,
    limit: int = 10_000,
    alerts: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Produces the oldest open dead letters that match into their domain's topic again, each once.

    `since` and `until` refer to the refusal: a time, or a span back from now such as `7d`. Letters that were
    refused three times are left out unless `force`; those that never reached the topic always are. `dry_run`
    only counts. Raises `ValueError` for invalid arguments.
    """
    if not 1 <= limit <= MOST_LETTERS:
        raise ValueError(f"limit must be from 1 to {MOST_LETTERS}, got {limit}; run it again for more")
    filters = Filters(error_type, _moment("since", since), _moment("until", until), user, device)
    wanted = {"filters": filters.as_json(), "limit": limit, "force": force}
    return _run(self, "dead_letters", domain, wanted, alerts=alerts, dry_run=dry_run)


@app.task(name="tasks.replay.offsets", **_TASK)
def offsets(
    self: "Task[..., Any]",
    *,
    partition: int,
    start: int,
    end: int,
    domain: str | None = None,
    alerts: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Validates and stores the records of one partition again, from `start` up to `end`, excluding `end`.

    Records that Kafka no longer has, or that the bridge has not committed, are left out. Raises `ValueError`.
    """
    if partition < 0 or not 0 <= start <= end:
        raise ValueError(f"partition {partition}, offsets {start} to {end} are not a range of a topic")
    wanted = {"partition": partition, "start": start, "end": end}
    return _run(self, "ranges", domain, wanted, alerts=alerts, dry_run=dry_run)


@app.task(name="tasks.replay.times", **_TASK)
def times(
    self: "Task[..., Any]",
    *,
    start: str,
    end: str | None = None,
    domain: str | None = None,
    alerts: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Like `offsets`, for every partition: the records that came from `start` up to `end` (default: now).

    Each is a time, or a span back from now such as `2h`. Raises `ValueError`.
    """
    begin, until = _moment("start", start), _moment("end", end) or datetime.now(UTC)
    if begin is None or begin > until:
        raise ValueError(f"start must be before end, got {start} and {until.isoformat()}")
    wanted = {"start_ms": int(begin.timestamp() * 1000), "end_ms": int(until.timestamp() * 1000)}
    return _run(self, "ranges", domain, wanted, alerts=alerts, dry_run=dry_run)


@app.task(name="tasks.replay.go_on", time_limit=TASK_SECONDS)
def go_on() -> None:
    """Continues runs whose worker is gone. Beat sends it periodically."""
    try:
        with database.access() as connection:
            abandoned = runs.abandoned(connection)
        for run_id in abandoned:
            with suppress(CannotRun):  # the reason is in the run by now
                _work(run_id)
    except _AWAY as error:
        log.warning("replay_waits", error=str(error).strip())


@app.task(name="tasks.replay.watch_unhandled")
def watch_unhandled() -> None:
    """Looks for the oldest unhandled dead letter. Beat sends it periodically."""
    unhandled.watch()


def _run(
    task: "Task[..., Any]",
    kind: str,
    domain: str | None,
    wanted: dict[str, Any],
    *,
    alerts: bool,
    dry_run: bool,
) -> dict[str, Any]:
    run_id = str(task.request.id)
    arguments = {"domain": _domain(domain), **wanted, "alerts": alerts, "dry_run": dry_run}
    try:
        with database.access() as connection:
            runs.begin(connection, run_id, kind, arguments)
        worked = _work(run_id)
        with database.access() as connection:
            run = runs.read(connection, run_id)
    except _AWAY as error:
        pause = min(2**task.request.retries, MOST_PAUSE_SECONDS)
        log.warning("replay_waits", run=run_id, error=str(error).strip(), again_in_s=pause)
        raise task.retry(exc=error, countdown=pause, max_retries=RETRIES) from error
    if run is None or not (worked or run.ended_at):
        # Redis gave the task to a second worker, because the first one takes long.
        raise Ignore
    return run.report


def _work(run_id: str) -> bool:
    """Works on the run until it has ended; returns whether this worker did it."""
    held = runs.take(run_id, uuid4().hex)
    if held is None:
        return False
    log.info("replay_taken", run=run_id, kind=held.kind, **held.counts)
    try:
        _WORK[held.kind](held)
        held.end()
    except CannotRun as error:
        held.end(str(error))
        raise
    except BaseException:
        held.release()
        raise
    log.info("replay_ended", run=run_id, kind=held.kind, **held.counts)
    return True


def _domain(name: str | None) -> str:
    """The domain of this name, by default the first. Raises `ValueError` for an unknown one."""
    if name is None:
        return registry.default().name
    try:
        return registry.by_name(name).name
    except registry.UnknownDomain as error:
        raise ValueError(str(error)) from None


def _moment(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
