"""From one pydantic model to rows: validation, table, primary key and COPY, all derived from its fields.

A domain declares its fields with the kinds below (`Bigint`, `Double`, `Text`, `Time`) and makes a
`Declaration` of them; `tasks.telemetry` is the example. The columns are, in this order: `time`, the ids in
the topic, the other fields as declared, and one jsonb column for whatever else the payload holds.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError, to_json

from tasks.payload import REASON_LENGTH, ErrorType, Limits, Refused, describe, dotted, parse, refuse_faults

NULL = r"\N"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Sources whose parsed topic is kept at hand: well above a fleet of 10,000, and a few MB when full.
KNOWN_SOURCES = 16_384

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_NOT_IN_ID = re.compile(r"[\x00-\x1f\x7f-\x9f+#/\ud800-\udfff]")
# Every third character of an RFC 3339 time from the fifth on, and the one after its seconds.
# `datetime.fromisoformat` alone takes more than that, and each Python version something else.
_TIME_SHAPES = frozenset(["--T::", "--t::", "-- ::"])
_AFTER_SECONDS = frozenset([".", ",", "Z", "z", "+", "-", ""])


@dataclass(frozen=True, slots=True)
class Column:
    """How a kind of field is stored: its SQL type, its COPY text, and what a reason says it must be."""

    sql_type: str
    encode: Callable[[Any], str]
    expected: str


def _escape(text: str) -> str:
    return text.translate(_ESCAPES)


def _time_text(time: datetime) -> str:
    # The same text as `isoformat`, at less than half its cost.
    return to_json(time)[1:-1].decode()


def parse_time(value: Any) -> datetime:
    """An RFC 3339 string as a UTC time; digits beyond the microsecond are cut off.

    Raises `PydanticCustomError` of type `invalid_time`.
    """
    if type(value) is not str or value[4:17:3] not in _TIME_SHAPES or value[19:20] not in _AFTER_SECONDS:
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


Bigint = Annotated[int, Field(ge=-(2**63), le=2**63 - 1), Column("bigint", repr, "a 64-bit integer")]
Double = Annotated[float, Field(allow_inf_nan=False), Column("double precision", repr, "a finite number")]
Text = Annotated[str, Column("text", _escape, "a string")]
Time = Annotated[
    datetime, PlainValidator(parse_time), Column("timestamp with time zone", _time_text, "a time")
]

_ERROR_TYPES: dict[str, ErrorType] = {
    "missing": "MissingField",
    "finite_number": "NotFinite",
    "greater_than_equal": "OutOfRange",
    "less_than_equal": "OutOfRange",
    "invalid_time": "InvalidTime",
}


class Fields(BaseModel):
    """Base of a declaration's model: nothing is converted, and null for an optional field means absent."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    time: Time | None = None


SourceT = TypeVar("SourceT")
FieldsT = TypeVar("FieldsT", bound=Fields)


class Reading(NamedTuple, Generic[SourceT, FieldsT]):
    """A message that can become a row."""

    source: SourceT
    time: datetime  # UTC: the payload's, or else the Kafka record's
    fields: FieldsT
    payload: dict[str, Any]  # the whole object as it came, for dotted paths
    copy_line: bytes  # the row in COPY's text format, newline included


class Declaration(Generic[SourceT, FieldsT]):
    """A domain: what its messages must look like, and where their rows go.

    `source` is made of the ids in `topic`, each a level written `{name}`, and the name of its column.
    Raises `TypeError` for a field of no known kind, a name that comes twice, a primary key that is no column.
    """

    def __init__(
        self,
        fields: type[FieldsT],
        source: Callable[..., SourceT],
        *,
        topic: str,
        table: str,
        primary_key: tuple[str, ...],
        extra: str = "extra_data",
    ) -> None:
        columns = {name: _column(name, info) for name, info in fields.model_fields.items()}
        self._source = source
        self._validate = fields.__pydantic_validator__.validate_python
        self._levels = topic.split("/")
        self._ids = tuple(level[1:-1] for level in self._levels if level.startswith("{"))
        self._expected = {name: column.expected for name, column in columns.items()}
        self._encoders = [(name, column.encode) for name, column in columns.items() if name != "time"]
        self._locate = lru_cache(KNOWN_SOURCES)(self._locate_uncached)

        self.topic = topic
        self.table = table
        self.primary_key = primary_key
        self.sql_types = {
            **dict.fromkeys(self._ids, "text"),
            **{name: column.sql_type for name, column in columns.items()},
            extra: "jsonb",
        }
        self.columns = ("time", *self._ids, *(name for name, _ in self._encoders), extra)
        if len(set(self.columns)) < len(self.columns):
            raise TypeError(f"a column of {table} is declared twice: {', '.join(self.columns)}")
        if unknown := set(primary_key) - set(self.columns):
            raise TypeError(f"the primary key of {table} names no column of it: {sorted(unknown)}")

        names, key, staged = _quoted(self.columns), _quoted(primary_key), f"{table}_staged"
        self.copy = _copy_into(table, names)
        self.stage = f'CREATE TEMPORARY TABLE "{staged}" (LIKE "{table}" INCLUDING DEFAULTS) ON COMMIT DROP'
        self.copy_staged = _copy_into(staged, names)
        # In order of the key, so that two transactions with rows in common cannot wait for each other.
        self.insert_staged = (
            f'INSERT INTO "{table}" ({names}) SELECT {names} FROM "{staged}" '  # noqa: S608 - our own names
            f"ORDER BY {key} ON CONFLICT ({key}) DO NOTHING"
        )

    def parse_topic(self, topic: str) -> SourceT:
        """The source that the topic names. Raises `Refused` (`InvalidTopic`)."""
        return self._locate(topic)[0]

    def validate(
        self, topic: str, payload: bytes, timestamp_ms: int, limits: Limits
    ) -> Reading[SourceT, FieldsT]:
        """The message as a row.

        `timestamp_ms` is the Kafka record's, milliseconds since 1970; it counts where the payload has no
        `time`. The source's ids in the payload must be the topic's, or null, and are not stored again.
        Raises `Refused` and nothing else, always the same for the same message: of several faults the
        first of the topic's, the payload's as JSON, the claimed ids', the fields', the record's timestamp.
        """
        source, ids, id_text = self._locate(topic)
        values = parse(payload, limits)
        extra = values.copy()
        for name in self._expected:
            extra.pop(name, None)
        for name, own in ids:
            claim = extra.pop(name, None)
            if claim is not None and claim != own:
                refuse_faults(values, limits)
                raise Refused(
                    "ForeignClaim", f"`{name}` is {describe(claim)}, but the topic says {describe(own)}"
                )
        extra_json = to_json(extra)
        if b"Infinity" in extra_json:
            refuse_faults(values, limits)
        try:
            fields = self._validate(values)
        except ValidationError as error:
            refuse_faults(values, limits)
            raise self._refusal(error) from None
        time = fields.time or _time_of_record(timestamp_ms)
        own_values = fields.__dict__
        texts = [
            NULL if (value := own_values[name]) is None else encode(value) for name, encode in self._encoders
        ]
        line = "\t".join((_time_text(time), id_text, *texts, "")).encode()
        return Reading(source, time, fields, values, line + extra_json.replace(b"\\", b"\\\\") + b"\n")

    def _locate_uncached(self, topic: str) -> tuple[SourceT, list[tuple[str, str]], str]:
        levels = topic.split("/")
        ids: list[tuple[str, str]] = []
        if len(levels) != len(self._levels):
            raise Refused("InvalidTopic", f"the topic must be {self.topic}, got {describe(topic)}")
        for expected, level in zip(self._levels, levels, strict=True):
            if expected.startswith("{"):
                if fault := id_fault(level):
                    raise Refused("InvalidTopic", f"the {expected[1:-1]} in the topic {fault}")
                ids.append((expected[1:-1], level))
            elif level != expected:
                raise Refused("InvalidTopic", f"the topic must be {self.topic}, got {describe(topic)}")
        return self._source(**dict(ids)), ids, "\t".join(_escape(text) for _, text in ids)

    def _refusal(self, error: ValidationError) -> Refused:
        """All fields that are wrong in one reason; the first of them, as declared, gives the type."""
        details = error.errors(include_url=False)
        reason = "; ".join(_sentence(detail, self._expected) for detail in details)
        if len(reason) > REASON_LENGTH:
            # The end will be cut off, and with it the last fields: so their names go first.
            reason = f"wrong are {', '.join(dotted(detail['loc']) for detail in details)}: {reason}"
        return Refused(_error_type(details[0]), reason)


def id_fault(text: str) -> str | None:
    """What is wrong with `text` as an id in a topic, as the end of a sentence; None when it is fine."""
    if not 1 <= len(text) <= 128:
        return f"must have 1 to 128 characters, not {len(text)}"
    if text.isspace():
        return "must not be blank"
    if _NOT_IN_ID.search(text):
        return "must not hold control characters, '+', '#' or '/'"
    return None


def _time_of_record(timestamp_ms: int) -> datetime:
    if timestamp_ms >= 0:
        try:
            return EPOCH + timedelta(milliseconds=timestamp_ms)
        except OverflowError:
            pass
    reason = (
        f"the payload has no `time`, and the Kafka record's timestamp is no time either ({timestamp_ms} ms)"
    )
    raise Refused("InvalidTime", reason)


def _error_type(detail: ErrorDetails) -> ErrorType:
    # An integer that is no float is one that double precision cannot hold: floats accept every other.
    if detail["type"] == "float_type" and type(detail["input"]) is int:
        return "OutOfRange"
    return _ERROR_TYPES.get(detail["type"], "InvalidField")


def _sentence(detail: ErrorDetails, expected: dict[str, str]) -> str:
    path = dotted(detail["loc"])
    if detail["type"] == "missing":
        return f"{path} is missing; it must be {expected[str(detail['loc'][0])]}"
    if detail["type"] == "invalid_time":
        return f"{path} {detail['msg']}"
    return f"{path} must be {expected[str(detail['loc'][0])]}, got {describe(detail['input'])}"


def _column(name: str, info: FieldInfo) -> Column:
    """The kind of a field, found in its annotation, also inside `… | None`."""
    annotated = [getattr(part, "__metadata__", ()) for part in get_args(info.annotation)]
    for metadata in (info.metadata, *annotated):
        for marker in metadata:
            if isinstance(marker, Column):
                return marker
    raise TypeError(f"the field {name} is declared with none of the kinds of column")


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _copy_into(table: str, names: str) -> str:
    return f"COPY \"{table}\" ({names}) FROM STDIN (FORMAT text, ENCODING 'UTF8')"
