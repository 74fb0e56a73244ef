"""Changes as they happen: server-sent events."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from ingest.api.callers import Anybody, Gate
from ingest.api.feed import MEDIA_TYPE, Feed

LONGEST_SECONDS = 3600

router = APIRouter(tags=["events"])


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
async def events(
    request: Request,
    caller: Anybody,
    *,
    seconds: Annotated[
        int, Query(ge=1, le=LONGEST_SECONDS, description="It ends then; clients connect again by themselves.")
    ] = LONGEST_SECONDS,
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="Goes on after this event, up to an hour back.")
    ] = None,
) -> StreamingResponse:
    """Changes of alerts (`alert`) and devices that have sent (`devices`), as server-sent events.

    `reset` says that more has changed than is sent one by one: read `/alerts` and `/devices` again.
    """
    feed: Feed = request.app.state.feed
    gate: Gate = request.app.state.gate
    token = request.headers["authorization"].partition(" ")[2].strip()
    stream = feed.events(caller, last_event_id, seconds, lambda: gate.is_valid(token))
    return StreamingResponse(stream, media_type=MEDIA_TYPE, headers={"cache-control": "no-store"})
