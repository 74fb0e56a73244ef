"""The work of `sluice dlq replay` and `sluice replay`: the workers do it, and the command follows them."""

import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import redis
from kombu.exceptions import OperationalError

from ingest.admin.errors import OperatorError, ServerAway
from ingest.admin.letters.dlq_list import reading
from ingest.admin.letters.dlq_outcome import Outlook, State
from ingest.admin.postgres import Connection
from tasks import registry
from tasks.dead_letters import replayed
from tasks.dead_letters.letter import Filters
from tasks.domain.domain import AnyDomain
from tasks.replay import dead_letters, offsets, times
from tasks.replays import runs
from tasks.replays.dead_letters import MOST_LETTERS
from tasks.replays.runs import Run

POLL_SECONDS = 0.25
# How long a worker may take to begin, and the pipeline to process what was replayed.
BEGIN_SECONDS = 30.0
OUTCOME_SECONDS = 120.0
# A run without progress for this long has lost its worker, and no other worker takes it.
STALL_SECONDS = 300.0

Progress = Callable[[str, int, int], None]


class Replay(NamedTuple):
    """A run that has ended, and the outcomes of its messages so far."""

    run: Run
    outcomes: Counter[State]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        outcomes = {str(state).replace(" ", "_"): count for state, count in self.outcomes.items()}
        return {**self.run.report, "outcomes": outcomes}


def start(
    domain: AnyDomain,
    filters: Filters,
    limit: int,
    *,
    alerts: bool,
    force: bool,
    dry_run: bool,
    run_id: str | None = None,
    expires: float | None = None,
) -> str:
    """Asks the workers for the replay; returns its run. Raises `OperatorError`.

    With `expires`, no worker begins it that many seconds later.
    """
    kwargs = {"domain": domain.name, **filters.as_json(), "limit": limit}
    kwargs |= {"alerts": alerts, "force": force, "dry_run": dry_run}
    return _send(dead_letters, kwargs, run_id, expires)


def start_offsets(
    domain: AnyDomain, partition: int, start: int, end: int, *, alerts: bool, dry_run: bool
) -> str:
    """Asks the workers to run these records again; returns the run.

    Raises `OperatorError`, before any worker is asked, also for a range of which Kafka has nothing.
    """
    if not 0 <= start < end:
        raise OperatorError(f"{start} to {end} is not a range of offsets: the end is behind its last record.")
    topic = registry.kafka_topic(domain)
    with reading() as reader:
        there = reader.ranges(topic)
    if partition not in there:
        raise OperatorError(f"{topic} has no partition {partition}; it has 0 to {max(there)}.")
    first, behind = there[partition]
    if end <= first or start >= behind:
        raise OperatorError(
            f"Kafka has the offsets from {first} to before {behind} of partition {partition} of {topic}:"
            f" nothing from {start} to {end}."
        )
    kwargs = {"domain": domain.name, "partition": partition, "start": start, "end": end}
    return _send(offsets, kwargs | {"alerts": alerts, "dry_run": dry_run})


def start_times(domain: AnyDomain, start: datetime, end: datetime, *, alerts: bool, dry_run: bool) -> str:
    """Asks the workers to run again what came between two times; returns the run. Raises `OperatorError`."""
    if start >= end:
        raise OperatorError(f"--since ({start:%FT%TZ}) must be before --until ({end:%FT%TZ}).")
    kwargs = {"domain": domain.name, "start": start.isoformat(), "end": end.isoformat()}
    return _send(times, kwargs | {"alerts": alerts, "dry_run": dry_run})


def _send(task: Any, kwargs: dict[str, Any], run_id: str | None = None, expires: float | None = None) -> str:
    run_id = run_id or str(uuid4())
    try:
        # Its progress and its end are in the database; Celery would report only the end.
        task.apply_async(kwargs=kwargs, task_id=run_id, ignore_result=True, retry=False, expires=expires)
    except (redis.RedisError, OperationalError) as error:
        raise ServerAway(
            f"The replay could not be sent to Redis: {error}. Check REDIS_URL and that the server runs."
        ) from error
    return run_id


def check_limit(limit: int) -> None:
    """Raises `OperatorError` for a number of letters that no run takes."""
    if not 1 <= limit <= MOST_LETTERS:
        raise OperatorError(f"--limit must be from 1 to {MOST_LETTERS}; call it again for more.")


def follow(connection: Connection, run_id: str, progress: Progress) -> Run:
    """The run, when it has ended. Raises `OperatorError` when it does not begin, get on, or was given up."""
    deadline = time.monotonic() + BEGIN_SECONDS
    last: object = None
    while True:
        run = runs.read(connection, run_id)
        if run is not None:
            if run.error is not None:
                raise OperatorError(f"The replay {run_id} was given up: {run.error}.")
            done, total = ("done", "messages") if run.kind == "ranges" else ("replayed", "selected")
            progress("replayed", run.counts.get(done, 0), run.counts.get(total, 0))
            if run.ended_at is not None:
                return run
            if run.counts != last:
                last, deadline = run.counts, time.monotonic() + STALL_SECONDS
        if time.monotonic() > deadline:
            raise OperatorError(
                f"No worker has taken the replay {run_id}; it begins when one does. Check that a worker takes"
                " the queue db."
                if run is None
                else f"The replay {run_id} makes no progress; a worker continues it when it can. See the"
                " workers' logs."
            )
        time.sleep(POLL_SECONDS)


def await_outcomes(connection: Connection, run: Run, progress: Progress) -> Counter[State]:
    """The outcomes of the run's messages; returns when each has one, or after two minutes."""
    places = replayed.places(connection, run.run_id)
    deadline = time.monotonic() + OUTCOME_SECONDS
    with reading() as reader, Outlook(reader, runs.domain_of(run)) as outlook:
        while True:
            # A dead letter is sent before the bridge commits, so it is there after the commit.
            outcomes = Counter(outlook.outcomes(places, run.started_at - timedelta(minutes=1)))
            progress("worked on", len(places) - outcomes[State.IN_FLIGHT], len(places))
            if not outcomes[State.IN_FLIGHT] or time.monotonic() > deadline:
                return outcomes
            time.sleep(2 * POLL_SECONDS)
