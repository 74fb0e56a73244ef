"""Dead letters by reason, device and hour, and their replay."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import structlog
from fastapi import APIRouter, Path, Query, Response

from ingest.admin.audit import note
from ingest.admin.letters import dlq_acknowledge, dlq_one, dlq_replay, dlq_values
from ingest.admin.letters.dlq_recent import Find, Recent
from ingest.api import inputs, replay_places
from ingest.api.callers import Anybody, Caller
from ingest.api.connections import Connections
from ingest.api.inputs import (
    Database,
    Device,
    Domain,
    Limit,
    Moment,
    RecentLetters,
    Text,
    TextInPath,
    User,
)
from ingest.api.models.dead_letters import (
    Acknowledged,
    AcknowledgementWanted,
    Letters,
    LettersWanted,
    Replay,
    ReplayWanted,
    WholeLetter,
)
from ingest.api.places import Places
from ingest.api.problems import NotFound, Refused
from tasks.dead_letters import replayed
from tasks.dead_letters.letter import Filters, LetterId
from tasks.domain.domain import AnyDomain
from tasks.replays import runs
from tasks.replays.runs import Run

log = structlog.get_logger()

# Letters that are not in memory are read through a consumer of their own, with 16 MB of buffers.
_reading = Places("read the dead letters", 3, 1)
# Each waits in a thread, which all other requests need too.
_waiting = Places("wait for a replay", 4, 2)
READ_SECONDS = 20.0
SINCE = "1d"
MOST_GROUPS_SHOWN = 1000
MOST_ACKNOWLEDGED = 100_000
# A short replay is done before the answer; a longer one is looked at again.
WAIT_SECONDS = 5.0
POLL_SECONDS = 0.25

router = APIRouter(tags=["dead letters"])


@router.get("/dead-letters")
def dead_letters(
    caller: Anybody,
    database: Database,
    recent: RecentLetters,
    *,
    user: User = None,
    device: Device = None,
    domain: Domain = None,
    error_type: Annotated[Text | None, Query(description="Only this type, such as `MissingField`.")] = None,
    since: Annotated[
        Moment, Query(description="Refused since then; by default in the last day, but with `hour`.")
    ] = None,
    until: Annotated[Moment, Query(description="Refused before then.")] = None,
    hour: Annotated[
        Moment, Query(description="Refused in the hour (UTC) of this time, as `groups` have it.")
    ] = None,
    handled: Annotated[bool, Query(description="Include those that are no longer open.")] = False,
    limit: Annotated[Limit, Query(description="At most this many of the newest letters themselves.")] = 20,
) -> Letters:
    """How many open dead letters there are, by reason, device and hour, and the newest of them."""
    chosen = inputs.domain_named(domain)
    if since is None and hour is None:
        since = SINCE
    wanted = LettersWanted(
        user=user, device=device, error_type=error_type, since=since, until=until, hour=hour
    )
    filters = _filters(caller, wanted)
    with _reading.one(caller):
        find = partial(_handled, database)
        found = recent.count(chosen, filters, limit, find, handled=handled, seconds=READ_SECONDS)
        known = None if found.counts else _known(caller, chosen, recent, filters, find)
    ordered = sorted(found.counts.items(), key=lambda one: (one[0].hour, one[1]), reverse=True)
    if found.database_away:
        log.warning("server_away", error=found.database_away)
    return Letters.model_validate(
        {
            "total": found.counts.total(),
            "groups": [{**g._asdict(), "letters": count} for g, count in ordered[:MOST_GROUPS_SHOWN]],
            "groups_left_out": max(0, len(ordered) - MOST_GROUPS_SHOWN),
            "letters": [_with_path(one.as_json(), domain) for one in found.newest],
            "note": _note(caller, found.database_away),
            "known": known,
        }
    )


@router.get("/dead-letters/letters/{key:path}")
def one_letter(
    caller: Anybody,
    database: Database,
    recent: RecentLetters,
    key: Annotated[TextInPath, Path(description="Its key, or PARTITION/OFFSET of its message in the topic.")],
    *,
    domain: Domain = None,
) -> WholeLetter:
    """One dead letter whole: its payload, what came with it, why it was refused, and where it came from."""
    chosen = inputs.domain_named(domain)
    with _reading.one(caller):
        own = Filters(user=caller.user_id)
        find = partial(_handled, database)
        return WholeLetter.model_validate(dlq_one.whole(recent, chosen, key, own, find, READ_SECONDS))


def _with_path(letter: dict[str, Any], domain: str | None) -> dict[str, Any]:
    path = f"/api/v1/dead-letters/letters/{quote(letter['key'])}"
    return {**letter, "path": path if domain is None else f"{path}?domain={quote(domain, safe='')}"}


@router.post("/dead-letters/replays", status_code=202, responses={200: {"model": Replay}})
def replay(caller: Anybody, database: Database, response: Response, wanted: ReplayWanted) -> Replay:
    """Asks the workers to send open dead letters through the pipeline again, or with `dry_run` to count them.

    429 while another one of the tenant, or too many in all, have not ended.
    Answers with 200 when it has ended within seconds; otherwise `path` shows how far it is.
    """
    dlq_replay.check_limit(wanted.limit)
    domain, filters = inputs.domain_named(wanted.domain), _filters(caller, wanted)
    run_id = str(uuid4())
    with _waiting.one(caller):
        with (
            database.writing(caller.name) as connection,
            replay_places.place(connection, caller, filters.user, run_id),
        ):
            dlq_replay.start(
                domain,
                filters,
                wanted.limit,
                alerts=wanted.alerts,
                force=wanted.force,
                dry_run=wanted.dry_run,
                run_id=run_id,
                # A count that nobody waits for is not made: none gather while workers are away.
                expires=replay_places.STALE_SECONDS if wanted.dry_run else None,
            )
            if not wanted.dry_run:
                arguments = {"domain": domain.name, **filters.as_json(), "limit": wanted.limit}
                note(connection, "REPLAY", "replays", run_id, arguments)
        run = _ended_soon(database, run_id)
    shown = _shown(run_id, run, dry_run=wanted.dry_run)
    if shown.ended:
        response.status_code = 200
    return shown


@router.post("/dead-letters/acknowledgements")
def acknowledge(
    caller: Anybody, database: Database, recent: RecentLetters, wanted: AcknowledgementWanted
) -> Acknowledged:
    """Closes open dead letters about which nothing is to be done, or with `dry_run` counts them.

    No replay takes them any more.
    """
    domain, filters = inputs.domain_named(wanted.domain), _filters(caller, wanted)
    if wanted == AcknowledgementWanted(domain=wanted.domain, dry_run=wanted.dry_run):
        raise Refused(422, "Say which, by `user`, `device`, `error_type`, `since`, `until` or `hour`.")
    with _reading.one(caller):
        find = partial(_handled, database)
        letters = recent.select(domain, filters, MOST_ACKNOWLEDGED, find, seconds=READ_SECONDS)
    if wanted.dry_run or not letters:
        return Acknowledged(letters=len(letters), dry_run=wanted.dry_run, run_id=None)
    with database.writing(caller.name) as connection:
        count, run_id = dlq_acknowledge.close(connection, domain, letters, filters.as_json())
    return Acknowledged(letters=count, dry_run=False, run_id=run_id)


def _handled(
    database: Connections, letters: Sequence[LetterId], since: datetime
) -> dict[LetterId, replayed.Replayed]:
    with database.reading() as connection:
        return replayed.find_many(connection, letters, since)


def _known(
    caller: Caller, domain: AnyDomain, recent: Recent, filters: Filters, find: Find
) -> dict[str, list[str]] | None:
    """The values of the open letters in memory, for filters that match none of them."""
    everything = Filters(user=caller.user_id)
    a_day = replace(everything, since=datetime.now(UTC) - timedelta(days=1))
    look = recent.look(domain, everything, find) or recent.look(domain, a_day, find)
    if look is None:
        return None
    return dlq_values.known(caller.user_id, filters, (one.letter for one, _ in look.opened()))


def _filters(caller: Caller, wanted: LettersWanted) -> Filters:
    now = datetime.now(UTC)
    filters = Filters(
        wanted.error_type,
        inputs.moment("since", wanted.since, now),
        inputs.moment("until", wanted.until, now),
        caller.only(wanted.user),
        wanted.device,
    )
    hour = inputs.moment("hour", wanted.hour, now)
    if hour is None:
        return filters
    try:
        return filters.in_hour_of(hour)
    except OverflowError:
        raise Refused(422, "`hour` is the last one that there is.") from None


def _ended_soon(database: Connections, run_id: str) -> Run | None:
    """The run when it has ended, or as it is after a while."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with database.reading() as connection:
            run = runs.read(connection, run_id)
        if (run is not None and run.ended_at is not None) or time.monotonic() > deadline:
            return run
        time.sleep(POLL_SECONDS)


@router.get("/dead-letters/replays/{run_id}")
def replay_so_far(caller: Anybody, database: Database, run_id: TextInPath) -> Replay:
    """How far a replay is. There is none before a worker has begun it."""
    with database.reading() as connection:
        run = runs.read(connection, run_id)
    if run is None or (caller.user_id is not None and _user_of(run) != caller.user_id):
        raise NotFound(f"There is no replay {run_id}, or no worker has begun it yet.")
    return _shown(run_id, run, dry_run=bool(run.arguments.get("dry_run")))


def _note(caller: Caller, database_away: str) -> str | None:
    if not database_away:
        return None
    # It names addresses and roles, which are nobody's business but the operator's.
    reason = f": {database_away}" if caller.is_operator else "."
    return f"The database could not be asked which were replayed, so all count as open{reason}"


def _shown(run_id: str, run: Run | None, *, dry_run: bool) -> Replay:
    return Replay(
        run_id=run_id,
        path=f"/api/v1/dead-letters/replays/{run_id}",
        begun=run is not None,
        ended=run is not None and run.ended_at is not None,
        dry_run=dry_run,
        counts={} if run is None else run.counts,
        error=None if run is None else run.error,
    )


def _user_of(run: Run) -> str | None:
    filters = run.arguments.get("filters") or {}
    user: str | None = filters.get("user")
    return user
