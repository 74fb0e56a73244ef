"""The kinds of column that a record's fields may have: the JSON value, the SQL type, and the text for COPY.

`Bigint`, `Integer`, `Double`, `Numeric`, `Text`, `Boolean`, `Time`, `Uuid`, `Json` and `Point` are written as
annotations. `TopicLevel` is a part of the topic, `Owner` the user of the account that may publish on it, and
`Fingerprint` a number that is made of the message.
Enumerations, `Literal`s of strings, and `list[…]` of any kind need no name of their own. Any other SQL type
is `Annotated[str, sql("inet", "an IP address")]`; `GeoPoint` and `Geometry` are PostGIS's.
Nothing is converted: a number in a string is a string.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin
from uuid import UUID

from pydantic import Field, PlainValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, to_json

from tasks.text.wording import describe

NULL = r"\N"

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_QUOTED = str.maketrans({"\\": r"\\", '"': r"\""})
# Every third character of an RFC 3339 time from the fifth on, and the one after its seconds.
# `datetime.fromisoformat` alone takes more than that, and each Python version something else.
_TIME_SHAPES = frozenset(["--T::", "--t::", "-- ::"])
_AFTER_SECONDS = frozenset([".", ",", "Z", "z", "+", "-", ""])
# The same for a time without seconds.
_MINUTE_SHAPES = frozenset(shape[:4] for shape in _TIME_SHAPES)
_AFTER_MINUTES = _AFTER_SECONDS - {".", ","}
# Possessive and unambiguous, so that the cost is linear in the length of the text.
_NUMBER = r"[-+]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?+\d++)?+"
_WKT_POINT = re.compile(
    rf"\s*+(?:SRID=4326;\s*+)?+POINT\s*+\(\s*+({_NUMBER})\s++({_NUMBER})\s*+\)\s*+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Column:
    """How a kind of field is stored.

    `text` writes a value as PostgreSQL reads it, and `plain` means that this text never holds a tab, a line's
    end, a backslash, a quote, a comma or a brace. `expected` names the expected value in a reason.
    """

    sql_type: str
    text: Callable[[Any], str]
    expected: str
    plain: bool = False
    element: "Column | None" = None

    @property
    def encode(self) -> Callable[[Any], str]:
        """The value as a field of COPY's text format."""
        return self.text if self.plain else lambda value: escape(self.text(value))


class FromTopic:
    """Marks a field that is a level of the MQTT topic, the one written `{name of the field}`."""


class FromAccessList:
    """Marks the field of the user who owns the topic by the accounts' access lists."""


class FromMessage:
    """Marks a field that is made of the whole message, and is not in its payload."""


class Coordinates(NamedTuple):
    """A place: longitude and latitude, or any other pair of numbers."""

    x: float
    y: float


def sql(sql_type: str, expected: str, text: Callable[[Any], str] = str) -> Column:
    """A column of any SQL type, whose value is checked by the database itself."""
    return Column(sql_type, text, expected)


def escape(text: str) -> str:
    """The text as a field of COPY's text format."""
    return text.translate(_ESCAPES)


def time_text(time: datetime) -> str:
    """The same text as `isoformat`, at less than half its cost."""
    return to_json(time)[1:-1].decode()


def parse_time(value: Any) -> datetime:
    """An RFC 3339 string, also without seconds, as a UTC time; digits beyond the microsecond are cut off.

    Raises `PydanticCustomError` of type `invalid_time`.
    """
    if type(value) is not str or not (
        (value[4:17:3] in _TIME_SHAPES and value[19:20] in _AFTER_SECONDS)
        or (value[4:16:3] in _MINUTE_SHAPES and value[16:17] in _AFTER_MINUTES)
    ):
        raise _invalid_time("must be a string with an ISO 8601 time such as 2026-05-01T10:00:00Z", value)
    try:
        time = datetime.fromisoformat(value.upper())
    except ValueError:
        raise _invalid_time("must be a time that exists, such as 2026-05-01T10:00:00Z", value) from None
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        raise _invalid_time("must end in Z or a UTC offset, as in 2026-05-01T10:00:00Z", value)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise _invalid_time("must be in the years 1 to 9999 in UTC", value) from None


def _invalid_time(must: str, value: Any) -> PydanticCustomError:
    return PydanticCustomError("invalid_time", "{sentence}", {"sentence": f"{must}, got {describe(value)}"})


def parse_numeric(value: Any) -> Decimal:
    """A finite number, or a string with one, which keeps every digit. Raises `ValueError`."""
    if type(value) not in {int, float, str}:
        raise ValueError
    try:
        # The shortest text of a double is most likely the text that was sent.
        number = Decimal(repr(value) if type(value) is float else value)
    except InvalidOperation:
        raise ValueError from None
    if not number.is_finite():
        raise ValueError
    return number


def parse_uuid(value: Any) -> UUID:
    """A string with a UUID. Raises `ValueError`."""
    try:
        return UUID(value if type(value) is str else "")
    except ValueError:
        raise ValueError from None


def parse_json(value: Any) -> Any:
    """Any value but null, and without infinities. Raises `ValueError`."""
    if value is None or not _finite(value):
        raise ValueError
    return value


def parse_point(value: Any) -> Coordinates:
    """A point as WKT, `POINT(8.54 47.38)`, or as GeoJSON. Raises `ValueError`."""
    if type(value) is str and (found := _WKT_POINT.fullmatch(value)):
        place = Coordinates(float(found[1]), float(found[2]))
    elif type(value) is dict and value.get("type") == "Point":
        pair: Any = value.get("coordinates")
        if type(pair) is not list or [type(part) in {int, float} for part in pair] != [True, True]:
            raise ValueError
        try:
            place = Coordinates(float(pair[0]), float(pair[1]))
        except OverflowError:  # an integer beyond double precision
            raise ValueError from None
    else:
        raise ValueError
    if not (math.isfinite(place.x) and math.isfinite(place.y)):
        raise ValueError
    return place


def parse_geometry(value: Any) -> str:
    """WKT, or GeoJSON as an object; PostGIS reads the text of either. Raises `ValueError`."""
    if type(value) is str:
        return value
    if type(value) is dict and isinstance(value.get("type"), str) and _finite(value):
        return to_json(value).decode()
    raise ValueError


def _finite(value: Any) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float) and not math.isfinite(one):
            return False
        if isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one
    return True


def _boolean_text(value: bool) -> str:
    return "t" if value else "f"


_A_POINT = 'a point, as WKT ("POINT(8.54 47.38)") or as a GeoJSON object'

Fingerprint = Annotated[
    int, FromMessage(), Column("bigint", repr, "a number made of the message", plain=True)
]
Owner = Annotated[str, FromAccessList(), Column("text", str, "the owner of the topic")]
TopicLevel = Annotated[str, FromTopic(), Column("text", str, "a level of the topic")]
Bigint = Annotated[
    int, Field(strict=True, ge=-(2**63), le=2**63 - 1), Column("bigint", repr, "a 64-bit integer", plain=True)
]
Integer = Annotated[
    int,
    Field(strict=True, ge=-(2**31), le=2**31 - 1),
    Column("integer", repr, "a 32-bit integer", plain=True),
]
Double = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False),
    Column("double precision", repr, "a finite number", plain=True),
]
Numeric = Annotated[
    Decimal,
    PlainValidator(parse_numeric),
    Column("numeric", str, "a finite number, or a string with one", plain=True),
]
Text = Annotated[str, Field(strict=True), Column("text", str, "a string")]
Boolean = Annotated[bool, Field(strict=True), Column("boolean", _boolean_text, "true or false", plain=True)]
Time = Annotated[
    datetime, PlainValidator(parse_time), Column("timestamp with time zone", time_text, "a time", plain=True)
]
Uuid = Annotated[UUID, PlainValidator(parse_uuid), Column("uuid", str, "a UUID in a string", plain=True)]
Json = Annotated[
    Any,
    PlainValidator(parse_json),
    Column("jsonb", lambda value: to_json(value).decode(), "a JSON value other than null"),
]
Point = Annotated[
    Coordinates,
    PlainValidator(parse_point),
    Column("point", lambda place: f"({place.x!r},{place.y!r})", _A_POINT),
]
GeoPoint = Annotated[
    Coordinates,
    PlainValidator(parse_point),
    Column(
        "geometry(Point,4326)",
        lambda place: f"SRID=4326;POINT({place.x!r} {place.y!r})",
        _A_POINT,
        plain=True,
    ),
]
Geometry = Annotated[
    str,
    PlainValidator(parse_geometry),
    Column("geometry(Geometry,4326)", str, "a geometry, as WKT in a string or as a GeoJSON object"),
]


def column_of(name: str, info: FieldInfo) -> tuple[Column, bool]:
    """The kind of a field, and whether it may be null. Raises `TypeError` for an unknown kind."""
    annotation, nullable = _without_none(info.annotation)
    column = _marked(info.metadata) or _kind(annotation)
    if column is None:
        raise TypeError(f"the field {name} is not declared as a kind of column")
    return column, nullable


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in {Union, UnionType}:
        others = [part for part in get_args(annotation) if part is not type(None)]
        if len(others) == 1:
            return others[0], len(get_args(annotation)) == 2
    return annotation, False


def _marked(metadata: Any) -> Column | None:
    return next((marker for marker in metadata if isinstance(marker, Column)), None)


def _kind(annotation: Any) -> Column | None:
    if get_origin(annotation) is Annotated:
        return _marked(annotation.__metadata__) or _kind(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return _choice([member.value for member in annotation])
    if get_origin(annotation) is Literal and all(type(choice) is str for choice in get_args(annotation)):
        return _choice(list(get_args(annotation)))
    if get_origin(annotation) is list and get_args(annotation):
        element = _kind(_without_none(get_args(annotation)[0])[0])
        return None if element is None else _array(element)
    return None


def _choice(values: list[str]) -> Column:
    return Column("text", str, f"one of {', '.join(values)}")


def _array(element: Column) -> Column:
    def item(value: Any) -> str:
        if value is None:
            return "NULL"
        text = element.text(value)
        return text if element.plain or element.element else f'"{text.translate(_QUOTED)}"'

    def text(values: list[Any]) -> str:
        return "{" + ",".join(map(item, values)) + "}"

    sql_type = element.sql_type if element.element else f"{element.sql_type}[]"
    return Column(sql_type, text, f"an array, each element {element.expected}", element=element)
