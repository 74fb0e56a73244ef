"""Channels: where a user's alerts are sent besides MQTT. No answer holds a secret, or where a URL leads."""

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import AfterValidator

from ingest.admin.alerting import channels, channels_set
from ingest.api import inputs, pages, requests
from ingest.api.callers import Anybody
from ingest.api.inputs import Database, Limit, User, UserInPath
from ingest.api.models.channels import Channels, ChannelWanted, Deliveries, Tried
from ingest.api.pages import Cursor

Name = Annotated[
    str,
    Path(max_length=64, description="The channel's name, of the user's own choice."),
    AfterValidator(inputs.storable),
]

router = APIRouter(tags=["channels"])


@router.get("/channels")
def list_channels(
    caller: Anybody, database: Database, *, user: User = None, limit: Limit = 50, cursor: Cursor = None
) -> Channels:
    """The channels by user and name, without secrets; how many changes were sent, wait and have failed."""
    after = pages.place_of(cursor, channels_set.Place)
    with database.reading() as connection:
        rows = channels_set.page(connection, caller.only(user), limit + 1, after)
    shown, following = pages.cut(rows, limit, channels_set.Place)
    return Channels.model_validate({"channels": shown, "next": following})


@router.put(
    "/channels/{user}/{name}", status_code=204, responses={201: {"description": "The channel is new"}}
)
def set_channel(
    caller: Anybody, database: Database, user: UserInPath, name: Name, wanted: ChannelWanted
) -> Response:
    """Makes or updates a channel: 201 if it is new. Waiting deliveries go to its new target."""
    caller.may_see(user)
    with database.writing(caller.name) as connection:
        new = channels_set.put(connection, user, name, channels_set.Wanted(**wanted.model_dump()))
    return Response(status_code=201 if new else 204)


@router.delete("/channels/{user}/{name}", status_code=204)
def remove(caller: Anybody, database: Database, user: UserInPath, name: Name) -> None:
    """Removes a channel, and what waits for it."""
    caller.may_see(user)
    with database.writing(caller.name) as connection:
        channels.remove(connection, user, name)


@router.post("/channels/{user}/{name}/test")
def test(caller: Anybody, database: Database, user: UserInPath, name: Name) -> Tried:
    """Has a worker of `notify` send a message that says it is a test. It counts for the user's rate."""
    caller.may_see(user)
    with database.reading() as connection:
        channels.id_of(connection, user, name)
    answer = requests.try_channel(caller, user, name)
    why = "; ".join(fault["message"] for fault in answer.get("errors", []))
    return Tried(ok=answer["ok"], why=why or None)


@router.get("/channels/{user}/{name}/deliveries")
def deliveries(
    caller: Anybody,
    database: Database,
    user: UserInPath,
    name: Name,
    *,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Deliveries:
    """The outcome of each change that the channel sends, the newest first."""
    caller.may_see(user)
    before = pages.place_of(cursor, channels_set.Number)
    with database.reading() as connection:
        rows = channels_set.deliveries(connection, user, name, limit + 1, before)
    shown, following = pages.cut(rows, limit, channels_set.Number)
    return Deliveries.model_validate({"deliveries": shown, "next": following})
