"""Long lists, read page by page: a cursor holds the place of a page's last row."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

from fastapi import Query
from pydantic import AfterValidator

from ingest.api.inputs import storable
from ingest.api.problems import Refused

# Three ids of 128 characters with four bytes each are 2,100.
MOST_CHARACTERS = 3000

_Text = Annotated[str, Query(max_length=MOST_CHARACTERS), AfterValidator(storable)]
Cursor = Annotated[_Text | None, Query(description="`next` of the page before.")]

Place = TypeVar("Place", bound=NamedTuple)


def place_of(cursor: str | None, kind: type[Place]) -> Place | None:
    """The place that a cursor holds, of fields that are text or times. Raises `Refused`."""
    if cursor is None:
        return None
    kinds = list(get_type_hints(kind).values())
    try:
        values = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        fields = [_field(value, of) for value, of in zip(values, kinds, strict=True)]
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise Refused(422, "`cursor` is not one that this API has given; begin without one.") from None
    return kind._make(fields)


def cut(
    rows: Sequence[dict[str, Any]], limit: int, kind: type[NamedTuple]
) -> tuple[Sequence[dict[str, Any]], str | None]:
    """The page of at most `limit` rows, and the cursor of the next one if there are more rows than that."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], cursor_of(*(rows[limit - 1][name] for name in kind._fields))


def cursor_of(*values: Any) -> str:
    """A cursor that holds these values."""
    text = json.dumps(values, default=datetime.isoformat, ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _field(value: Any, kind: type) -> str | datetime:
    text = storable(str(value))
    return datetime.fromisoformat(text).astimezone(UTC) if kind is datetime else text
