"""Dead letters by reason, device and hour."""

import threading
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query

from ingest.admin import dlq_groups as work
from ingest.admin.dlq_outcome import envelope
from ingest.api import inputs
from ingest.api.callers import Anybody
from ingest.api.inputs import Device, Domain, Limit, Moment, Text, User
from ingest.api.models import Letters
from ingest.api.problems import Busy
from tasks.dead_letters.letter import Filters
from tasks.settings import settings

# Each reads the topic through a consumer of its own, with 16 MB of buffers.
AT_ONCE = 2
MOST_GROUPS_SHOWN = 1000

router = APIRouter(tags=["dead letters"])
_places = threading.BoundedSemaphore(AT_ONCE)


@router.get("/dead-letters")
def dead_letters(
    caller: Anybody,
    *,
    user: User = None,
    device: Device = None,
    domain: Domain = None,
    error_type: Annotated[Text | None, Query(description="Only this type, such as `MissingField`.")] = None,
    since: Annotated[Moment, Query(description="Refused since then; by default in the last day.")] = "1d",
    until: Annotated[Moment, Query(description="Refused before then.")] = None,
    handled: Annotated[bool, Query(description="Include those that are no longer open.")] = False,
    limit: Annotated[Limit, Query(description="At most this many of the newest letters themselves.")] = 20,
) -> Letters:
    """How many open dead letters there are, by reason, device and hour, and the newest of them."""
    now = datetime.now(UTC)
    chosen = inputs.domain_named(domain)
    filters = Filters(
        error_type,
        inputs.moment("since", since, now),
        inputs.moment("until", until, now),
        caller.only(user),
        device,
    )
    if not _places.acquire(blocking=False):
        raise Busy(f"{AT_ONCE} requests read the dead letters already. Try again in a moment.")
    try:
        seconds = settings().web_statement_timeout_seconds
        found = work.count(chosen, filters, limit, handled=handled, seconds=seconds)
    finally:
        _places.release()
    ordered = sorted(found.counts.items(), key=lambda one: (one[0].hour, one[1]), reverse=True)
    note = f"The database could not be asked which were replayed, so all count as open: {found.database_away}"
    return Letters.model_validate(
        {
            "total": found.counts.total(),
            "groups": [{**g._asdict(), "letters": count} for g, count in ordered[:MOST_GROUPS_SHOWN]],
            "groups_left_out": max(0, len(ordered) - MOST_GROUPS_SHOWN),
            "letters": [envelope(one) for one in found.newest],
            "note": note if found.database_away else None,
        }
    )
