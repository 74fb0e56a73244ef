"""From one pydantic model to rows: validation, table, primary key and COPY, all derived from its fields.

A domain declares its fields with the kinds of `tasks.domain.columns` and makes a `Declaration` of them. The
columns are, in this order: the time, the levels of the topic, the other fields as declared, and one jsonb
column for everything else in the payload.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, to_json

from tasks.domain.columns import NULL, Column, FromTopic, column_of, escape, time_text
from tasks.domain.payload import REASON_LENGTH, ErrorType, Limits, Refused, parse, refuse_faults
from tasks.text.wording import describe, dotted, id_fault

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Sources whose parsed topic is cached: well above a fleet of 10,000, and a few MB when full.
KNOWN_SOURCES = 16_384

# Column with the number of a staged line, from 1. No field can have this name.
ORDINAL = "#"

_ERROR_TYPES: dict[str, ErrorType] = {
    "missing": "MissingField",
    "finite_number": "NotFinite",
    "greater_than_equal": "OutOfRange",
    "less_than_equal": "OutOfRange",
    "invalid_time": "InvalidTime",
}


def _stop_at_first_element(schema: Any) -> None:
    """Makes validation stop at the first wrong element of an array, which may have a hundred thousand."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        for part in schema.values():
            _stop_at_first_element(part)


class Record(BaseModel):
    """Base of a domain's model. Null for an optional field means absent.

    Fields from the topic (`TopicLevel`) are neither validated nor part of the validated fields.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The schema of the payload's fields alone: the topic is parsed before the payload."""
        schema = handler(source)
        inner: Any = schema
        while inner["type"] != "model-fields":
            inner = inner["schema"]
        for name, info in cls.model_fields.items():
            if _is_from_topic(info):
                inner["fields"].pop(name, None)
        _stop_at_first_element(inner)
        return schema


SourceT = TypeVar("SourceT")
RecordT = TypeVar("RecordT", bound=Record)


class Reading(NamedTuple, Generic[SourceT, RecordT]):
    """A message that can become a row."""

    source: SourceT
    time: datetime  # UTC: the payload's, otherwise the Kafka record's
    fields: RecordT  # without those from the topic
    payload: dict[str, Any]  # the whole object as it came, for dotted paths
    copy_line: bytes  # the row in COPY's text format, newline included


class Located(NamedTuple, Generic[SourceT]):
    """A parsed topic: the source, the levels by the names of their columns, and these as COPY text."""

    source: SourceT
    levels: dict[str, str]
    text: str


class Declaration(Generic[SourceT, RecordT]):
    """The form of a topic's messages, and the table of their rows.

    `source` is made of the levels that `topic` writes `{name}`, each the name of a field from the topic.
    `extra` is None if undeclared fields are dropped. Raises `TypeError` for a field of an unknown kind, a
    name that comes twice, a topic and fields that do not match, or a key or time that is not a column.
    """

    def __init__(
        self,
        record: type[RecordT],
        source: Callable[..., SourceT],
        *,
        topic: str,
        table: str,
        primary_key: tuple[str, ...],
        time: str = "time",
        extra: str | None = "extra_data",
    ) -> None:
        self._levels = topic.split("/")
        self.levels = tuple(level[1:-1] for level in self._levels if level.startswith("{"))
        if set(self.levels) != {name for name, info in record.model_fields.items() if _is_from_topic(info)}:
            raise TypeError(f"the fields from the topic must be those in braces in {topic}")
        fields = {name: info for name, info in record.model_fields.items() if name not in self.levels}
        columns = {name: column_of(name, info) for name, info in fields.items()}
        if time not in columns or columns[time][0].sql_type != "timestamp with time zone":
            raise TypeError(f"{table} has no field `{time}` of the kind Time")
        others = {name: column for name, (column, _) in columns.items() if name != time}
        self._source = source
        self._validate = record.__pydantic_validator__.validate_python
        self._members = {_member(name, info): columns[name][0] for name, info in fields.items()}
        self._encoders = [(name, column.encode) for name, column in others.items()]
        self._keeps_extra = extra is not None
        self._locate = lru_cache(KNOWN_SOURCES)(self._locate_uncached)

        self.record = record
        self.topic = topic
        self.table = table
        self.primary_key = primary_key
        # The fields of the key that come neither from the topic nor from the time.
        self.key_fields = tuple(name for name in primary_key if name in others)
        self.time = time
        self.extra = extra
        self.sql_types = {
            time: columns[time][0].sql_type,
            **dict.fromkeys(self.levels, "text"),
            **{name: column.sql_type for name, column in others.items()},
            **({} if extra is None else {extra: "jsonb"}),
        }
        self.columns = (time, *self.levels, *others, *(() if extra is None else (extra,)))
        # A message without a time gets that of its Kafka record.
        self.nullable = frozenset(name for name in others if columns[name][1])
        if len(set(self.columns)) < len(self.columns):
            raise TypeError(f"a column of {table} is declared twice: {', '.join(self.columns)}")
        if unknown := set(primary_key) - set(self.columns):
            raise TypeError(f"the primary key of {table} names unknown columns: {sorted(unknown)}")
        if optional := set(primary_key) & self.nullable:
            raise TypeError(f"the primary key of {table} names optional fields: {sorted(optional)}")

        self.members = {_member(name, info): name for name, info in fields.items()}
        self.staged = f"{table}_staged"
        names, key, staged = quoted(self.columns), quoted(primary_key), self.staged
        self.copy = _copy_into(table, names)
        self.stage = (
            f'CREATE TEMPORARY TABLE "{staged}" (LIKE "{table}" INCLUDING DEFAULTS, '
            f'"{ORDINAL}" integer GENERATED ALWAYS AS IDENTITY) ON COMMIT DROP'
        )
        self.copy_staged = _copy_into(staged, names)
        # In order of the key, so that two transactions with common rows cannot deadlock; if several rows
        # share a key, the first is stored.
        self.insert_staged = (
            f'INSERT INTO "{table}" ({names}) SELECT {names} FROM "{staged}" '  # noqa: S608 - our own names
            f'ORDER BY {key}, "{ORDINAL}" ON CONFLICT ({key}) DO NOTHING'
        )
        self.staged_present = f'SELECT FROM "{staged}" JOIN "{table}" USING ({key}) LIMIT 1'

    def parse_topic(self, topic: str) -> SourceT:
        """The source that the topic names. Raises `Refused` (`InvalidTopic`)."""
        return self._locate(topic).source

    def validate(
        self, topic: str, payload: bytes, timestamp_ms: int, limits: Limits
    ) -> Reading[SourceT, RecordT]:
        """The reading in a message, with its row as COPY text.

        `timestamp_ms` is the Kafka record's, milliseconds since 1970; it counts if the payload lacks a time.
        Levels of the topic that the payload repeats must equal the topic's, or be null, and are not stored
        again. Raises `Refused` and nothing else, always the same for the same message: the first fault in
        the order topic, payload as JSON, claimed levels, fields, record's timestamp.
        """
        source, levels, level_text = self._locate(topic)
        values = parse(payload, limits)
        extra = values.copy()
        for name in self._members:
            extra.pop(name, None)
        for name, own in levels.items():
            claim = extra.pop(name, None)
            if claim is not None and claim != own:
                refuse_faults(values, limits)
                raise Refused(
                    "ForeignClaim", f"`{name}` is {describe(claim)}, but the topic says {describe(own)}"
                )
        if self._keeps_extra:
            extra_json = to_json(extra)
            if b"Infinity" in extra_json:
                refuse_faults(values, limits)
        try:
            fields = self._validate(values)
        except ValidationError as error:
            refuse_faults(values, limits)
            raise self._refusal(error) from None
        own_values = fields.__dict__
        time = own_values[self.time] or _time_of_record(timestamp_ms, self.time)
        texts = [
            NULL if (value := own_values[name]) is None else encode(value) for name, encode in self._encoders
        ]
        if not self._keeps_extra:
            line = "\t".join((time_text(time), level_text, *texts)).encode() + b"\n"
            return Reading(source, time, fields, values, line)
        line = "\t".join((time_text(time), level_text, *texts, "")).encode()
        return Reading(source, time, fields, values, line + extra_json.replace(b"\\", b"\\\\") + b"\n")

    def whole(self, topic: str, reading: Reading[SourceT, RecordT]) -> RecordT:
        """The record with all its fields: those of the payload, those from the topic, and the time."""
        return reading.fields.model_copy(update={**self._locate(topic).levels, self.time: reading.time})

    def _locate_uncached(self, topic: str) -> Located[SourceT]:
        try:
            topic.encode()
        except UnicodeEncodeError as error:
            byte = ord(topic[error.start]) & 0xFF
            raise Refused(
                "InvalidTopic", f"the topic must be UTF-8, but its byte 0x{byte:02x} is not"
            ) from None
        levels = topic.split("/")
        found: dict[str, str] = {}
        if len(levels) != len(self._levels):
            raise Refused("InvalidTopic", f"the topic must be {self.topic}, got {describe(topic)}")
        for expected, level in zip(self._levels, levels, strict=True):
            if expected.startswith("{"):
                if fault := id_fault(level):
                    raise Refused("InvalidTopic", f"the {expected[1:-1]} in the topic {fault}")
                found[expected[1:-1]] = level
            elif level != expected:
                raise Refused("InvalidTopic", f"the topic must be {self.topic}, got {describe(topic)}")
        return Located(self._source(**found), found, "\t".join(map(escape, found.values())))

    def _refusal(self, error: ValidationError) -> Refused:
        """All fields that are wrong in one reason; the first of them, as declared, gives the type."""
        details = error.errors(include_url=False)
        reason = "; ".join(_sentence(detail, self._members) for detail in details)
        if len(reason) > REASON_LENGTH:
            # The reason is cut at its end, so the names of all fields come first.
            reason = f"wrong fields: {', '.join(dotted(detail['loc']) for detail in details)}: {reason}"
        return Refused(_error_type(details[0]), reason)


def quoted(names: tuple[str, ...]) -> str:
    """Names as SQL lists them."""
    return ", ".join(f'"{name}"' for name in names)


def _time_of_record(timestamp_ms: int, name: str) -> datetime:
    if timestamp_ms >= 0:
        try:
            return EPOCH + timedelta(milliseconds=timestamp_ms)
        except OverflowError:
            pass
    reason = f"the payload has no `{name}`, nor has the Kafka record a valid timestamp ({timestamp_ms} ms)"
    raise Refused("InvalidTime", reason)


def _error_type(detail: ErrorDetails) -> ErrorType:
    # Floats accept every integer except one that double precision cannot hold.
    if detail["type"] == "float_type" and type(detail["input"]) is int:
        return "OutOfRange"
    return _ERROR_TYPES.get(detail["type"], "InvalidField")


def _sentence(detail: ErrorDetails, members: dict[str, Column]) -> str:
    path = dotted(detail["loc"])
    if detail["type"] == "invalid_time":
        return f"{path} {detail['msg']}"
    if own := str(detail.get("ctx", {}).get("error", "")):
        return f"{path}: {own}"  # the words of a domain's own validator
    expected = _expected(detail["loc"], members)
    if detail["type"] == "missing":
        return f"{path} is missing; it must be {expected}"
    return f"{path} must be {expected}, got {describe(detail['input'])}"


def _expected(path: tuple[str | int, ...], members: dict[str, Column]) -> str:
    column = members.get(str(path[0])) if path else None
    if column is None:
        return "as declared"
    for _ in path[1:]:
        column = column.element or column
    return column.expected


def _is_from_topic(info: FieldInfo) -> bool:
    return any(isinstance(marker, FromTopic) for marker in info.metadata)


def _member(name: str, info: FieldInfo) -> str:
    """The name of the field in the payload. Raises `TypeError` for an invalid alias."""
    alias = name if info.validation_alias is None else info.validation_alias
    if not isinstance(alias, str):
        raise TypeError(f"the field {name} has an alias that is not a name")
    return alias


def _copy_into(table: str, names: str) -> str:
    return f"COPY \"{table}\" ({names}) FROM STDIN (FORMAT text, ENCODING 'UTF8')"
