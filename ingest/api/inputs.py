"""The inputs that requests may hold."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from pydantic import AfterValidator

from ingest.admin.letters.dlq_recent import Recent
from ingest.api.connections import Connections
from ingest.api.problems import Refused
from tasks import registry
from tasks.domain.domain import AnyDomain
from tasks.text.times import parse_moment

MOST_ROWS = 500
MOST_CHARACTERS = 200


def storable(text: str) -> str:
    """The text. Raises `ValueError` for text that no database can hold and no answer can repeat."""
    if "\0" in text or (not text.isascii() and any(0xD800 <= ord(one) < 0xE000 for one in text)):
        raise ValueError("must not hold NUL or a lone surrogate")
    return text


Storable = Annotated[str, AfterValidator(storable)]
"""A field of a body."""
Text = Annotated[str, Query(max_length=MOST_CHARACTERS), AfterValidator(storable)]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="At most this many.")]
User = Annotated[Text | None, Query(description="Only of this user; a tenant's own is all that there is.")]
Device = Annotated[Text | None, Query(description="Only of this device.")]
Domain = Annotated[Text | None, Query(description="The domain; by default the first of DOMAINS.")]
Moment = Annotated[
    Text | None,
    Query(description="A time such as `2026-05-01T10:00Z`, or a span back from now: `90m`, `7d`."),
]
UserInPath = Annotated[str, Path(max_length=128), AfterValidator(storable)]
DeviceInPath = Annotated[
    str,
    Path(max_length=128, description="The device, without the namespace of its domain."),
    AfterValidator(storable),
]


TextInPath = Annotated[str, Path(max_length=MOST_CHARACTERS), AfterValidator(storable)]


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]
"""The body as it came, for what is validated as on MQTT."""


def document(schema: dict[str, Any]) -> dict[str, Any]:
    """The description of a route that takes `Body`."""
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def _connections(request: Request) -> Connections:
    found: Connections = request.app.state.connections
    return found


def _recent(request: Request) -> Recent:
    found: Recent = request.app.state.recent
    return found


RecentLetters = Annotated[Recent, Depends(_recent)]
Database = Annotated[Connections, Depends(_connections)]


def moment(name: str, text: str | None, now: datetime) -> datetime | None:
    """The time that a parameter names. Raises `Refused`."""
    if text is None:
        return None
    try:
        return parse_moment(text, now).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(422, f"`{name}` {error}.") from None


def domain_named(name: str | None) -> AnyDomain:
    """The domain of that name, or the default one. Raises `Refused`."""
    try:
        return registry.by_name(name or "")
    except registry.UnknownDomain as error:
        raise Refused(422, f"`domain`: {error}.") from None


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON can hold it, whatever types its columns have."""
    found: dict[str, Any] = json.loads(json.dumps(row, default=_text, ensure_ascii=False))
    return found


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
