"""Dead letters by reason, device and hour; those that are meant, counted, then replayed."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ValidationError

from ingest.api import inputs
from ingest.api.callers import Caller
from ingest.api.connections import Connections
from ingest.api.inputs import Database, RecentLetters
from ingest.api.models.dead_letters import AcknowledgementWanted, Replay, ReplayWanted
from ingest.api.problems import NotFound, Refused
from ingest.api.routes import dead_letters as work
from ingest.console import render
from ingest.console.guard import Form, Id, Visiting, Word
from tasks import registry

LETTERS_SHOWN = 20
# A page of a thousand takes longer to make than its letters to count.
GROUPS_SHOWN = 100
LOOK_AGAIN_SECONDS = 3


class Chosen(NamedTuple):
    """The letters to look at: those that match everything that is set."""

    user: Word = None
    device: Word = None
    domain: Word = None
    error_type: Word = None
    since: Word = None
    until: Word = None
    hour: Word = None


Wanted = TypeVar("Wanted", bound=BaseModel)

router = APIRouter()


@router.get("/dead-letters")
def listed(
    request: Request,
    visitor: Visiting,
    database: Database,
    recent: RecentLetters,
    chosen: Annotated[Chosen, Depends(Chosen)],
    closed: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """How many open ones there are of each reason, device and hour, and the newest of them."""
    if not (chosen.since or chosen.hour):
        chosen = chosen._replace(since=work.SINCE)
    # Forms act on what was seen, however long the page is read: a later letter is neither closed nor counted.
    looked_at = datetime.now(UTC)
    times = {
        "since": inputs.moment("since", chosen.since, looked_at),
        "until": inputs.moment("until", chosen.until, looked_at) or looked_at,
        "hour": inputs.moment("hour", chosen.hour, looked_at),
    }
    found = work.dead_letters(visitor.caller, database, recent, **chosen._asdict(), limit=LETTERS_SHOWN)
    return render.page(
        "dead_letters.html",
        request,
        found=found,
        groups=found.groups[:GROUPS_SHOWN],
        groups_left_out=found.groups_left_out + max(0, len(found.groups) - GROUPS_SHOWN),
        letters=list(reversed(found.letters)),
        chosen={name: value or "" for name, value in chosen._asdict().items()},
        seen={**chosen._asdict(), **{name: time.isoformat() for name, time in times.items() if time}},
        domains=[one.name for one in registry.domains()],
        closed=closed,
    )


@router.post("/dead-letters/replays")
def replay(visitor: Visiting, database: Database, given: Form) -> Response:
    """Counts what would be replayed, or replays it; leads to the page that shows how far that is."""
    filters = {name: given[name] for name in Chosen._fields if given.get(name)}
    flags = {name: name in given for name in ("dry_run", "alerts", "force")}
    wanted = _wanted(ReplayWanted, {**filters, **flags})
    begun = work.replay(visitor.caller, database, Response(), wanted)
    return RedirectResponse(
        render.url("/dead-letters/replay", run=begun.run_id, **filters), 303, {"cache-control": "no-store"}
    )


@router.post("/dead-letters/close")
def close(visitor: Visiting, database: Database, recent: RecentLetters, given: Form) -> Response:
    """Closes the open ones that match: nothing is to be done about them, and no replay takes them."""
    filters = {name: given[name] for name in Chosen._fields if given.get(name)}
    done = work.acknowledge(visitor.caller, database, recent, _wanted(AcknowledgementWanted, filters))
    return RedirectResponse(
        render.url("/dead-letters", closed=str(done.letters), **filters), 303, {"cache-control": "no-store"}
    )


@router.get("/dead-letters/replay")
def so_far(
    request: Request,
    visitor: Visiting,
    database: Database,
    run: Id,
    chosen: Annotated[Chosen, Depends(Chosen)],
) -> Response:
    """How far a replay is; of a dry run, what it found, and the replay itself to begin."""
    found, missing = _run(visitor.caller, database, run)
    values: dict[str, Any] = {
        "run": found,
        "run_id": run,
        "missing": missing,
        "chosen": {name: value for name, value in chosen._asdict().items() if value},
        "refresh": None if found is not None and found.ended else LOOK_AGAIN_SECONDS,
    }
    return render.page("replay.html", request, status=200 if found else 404, **values)


def _wanted(kind: type[Wanted], values: Mapping[str, object]) -> Wanted:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise Refused(422, f"The form is not one of these pages: {error.errors()[0]['msg']}.") from None


def _run(caller: Caller, database: Connections, run_id: str) -> tuple[Replay | None, str]:
    """The run, or why there is none: it may only not have begun."""
    try:
        return work.replay_so_far(caller, database, run_id), ""
    except NotFound as error:
        return None, error.detail
