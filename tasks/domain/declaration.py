"""From one pydantic model to rows: validation, table, primary key and COPY, all derived from its fields.

A domain declares its fields with the kinds of `tasks.domain.columns` and makes a `Declaration` of them. The
columns are, in this order: the time, the levels of the topic, the other fields as declared, and one jsonb
column for everything else in the payload.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json

from tasks.domain.columns import NULL, column_of, escape, time_text
from tasks.domain.faults import refusal, with_integers
from tasks.domain.form import Form, place_of
from tasks.domain.outcome import Outcome, fingerprint, outcome
from tasks.domain.payload import Limits, Refused, parse, refuse_faults
from tasks.domain.reader import Element, Reader, Values
from tasks.domain.record import (
    RecordT,
    access_owner_of,
    is_outside_payload,
    levels_of,
    member_of,
    record_of,
)
from tasks.domain.template import Template
from tasks.domain.topics import Located, SourceT, Topics
from tasks.text.wording import describe

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Column with the number of a staged line, from 1. No field can have this name.
ORDINAL = "#"


class Reading(NamedTuple, Generic[SourceT, RecordT]):
    """A message that can become a row."""

    source: SourceT
    time: datetime  # UTC: the payload's, otherwise the Kafka record's
    values: dict[str, Any]  # the validated fields by their names, without those from the topic
    payload: dict[str, Any]  # the whole object as it came, for dotted paths
    copy_line: bytes  # the row in COPY's text format, newline included
    made: RecordT | type[RecordT]  # the record that the validator made, or its class where none was needed

    @property
    def fields(self) -> RecordT:
        """The validated fields as a record, without those from the topic. Most readings are never asked."""
        made = self.made
        return record_of(made, self.values, self.payload) if isinstance(made, type) else made


class Declaration(Generic[SourceT, RecordT]):
    """The form of a topic's messages, and the table of their rows.

    `source` is made of the levels that `topic` writes `{name}`, each the name of a field from the topic.
    `extra` is None if undeclared fields are dropped. With a `form`, messages look as it says, and a topic may
    be any template, or several. Raises `TypeError` for a field of an unknown kind, a
    name that comes twice, a topic and fields that do not match, or a key or time that is not a column.
    """

    def __init__(
        self,
        record: type[RecordT],
        source: Callable[..., SourceT],
        *,
        topic: str | tuple[str, ...],
        table: str,
        primary_key: tuple[str, ...],
        time: str = "time",
        extra: str | None = "extra_data",
        form: Form | None = None,
    ) -> None:
        topics = (topic,) if isinstance(topic, str) else topic
        if form is None and len(topics) > 1:
            raise TypeError(f"several topics need a form: {', '.join(topics)}")
        presence = {} if form is None else {Template(one.topic): one for one in form.presence}
        self.templates = (*map(Template, topics), *presence)
        self.access_owner = access_owner_of(record, free=form is not None)
        from_topic = levels_of(record, self.templates, free=form is not None)
        self.levels = (self.access_owner, *from_topic) if self.access_owner else from_topic
        fields = {name: info for name, info in record.model_fields.items() if name not in self.levels}
        columns = {name: column_of(name, info) for name, info in fields.items()}
        if time not in columns or columns[time][0].sql_type != "timestamp with time zone":
            raise TypeError(f"{table} has no field `{time}` of the kind Time")
        others = {name: column for name, (column, _) in columns.items() if name != time}
        self._validated: Callable[[Any], RecordT] = record.__pydantic_validator__.validate_python
        self._members = {member_of(name, info): columns[name][0] for name, info in fields.items()}
        self.encoders = [(name, column.encode) for name, column in others.items()]
        self._keeps_extra = extra is not None
        self._topics = Topics(
            self.templates,
            self.levels,
            source,
            () if form is None else form.templates,
            strict=form is None,
            owner=self.access_owner,
            presence=presence,
        )
        self.locate = self._topics.locate
        self.ranked = self._topics.ranked
        self.fingerprints = [name for name, info in fields.items() if is_outside_payload(info)]

        self.record = record
        self.topic = self._topics.text
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

        self.members = {member_of(name, info): name for name, info in fields.items()}
        self.time_member = member_of(time, fields[time])
        self.form = form
        self._reader = None
        if form is not None:
            self._reader = Reader(
                form,
                (
                    (name, member_of(name, info), *columns[name], place_of(member_of(name, info), info))
                    for name, info in fields.items()
                    if name not in self.fingerprints
                ),
                time=time,
                key=primary_key,
            )
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

    def parse_topic(self, topic: str, owner: str = "") -> SourceT:
        """The source that the topic names. Raises `Refused` (`InvalidTopic`).

        `owner` is the user by the access lists, of a domain with a field `access_owner`; without one it
        raises `Refused` (`UnknownOwner`).
        """
        return self.locate(topic, owner).source

    def validate(
        self, topic: str, payload: bytes, timestamp_ms: int, limits: Limits
    ) -> Reading[SourceT, RecordT]:
        """The reading in a message, with its row as COPY text.

        `timestamp_ms` is the Kafka record's, milliseconds since 1970; it counts if the payload lacks a time.
        Levels of the topic that the payload repeats must equal the topic's, or be null, and are not stored
        again. Raises `Refused` and nothing else, always the same for the same message: the first fault in
        the order topic, payload as JSON, claimed levels, fields, record's timestamp.
        """
        source, levels, level_text, _, _ = self.locate(topic)
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
        fields = self.checked(values, values, limits)
        own_values = fields.__dict__
        time = own_values[self.time] or _time_of_record(timestamp_ms, self.time)
        texts = [
            NULL if (value := own_values[name]) is None else encode(value) for name, encode in self.encoders
        ]
        if not self._keeps_extra:
            line = "\t".join((time_text(time), level_text, *texts)).encode() + b"\n"
            return Reading(source, time, own_values, values, line, fields)
        line = "\t".join((time_text(time), level_text, *texts, "")).encode()
        line += extra_json.replace(b"\\", b"\\\\") + b"\n"
        return Reading(source, time, own_values, values, line, fields)

    def read(
        self,
        topic: str,
        payload: bytes,
        timestamp_ms: int,
        limits: Limits,
        *,
        place: tuple[int, int] = (0, 0),
        content_type: str = "",
        owner: str = "",
    ) -> Outcome[Reading[SourceT, RecordT]]:
        """The readings in a message, and the refusal of those that cannot become rows.

        `place` is the record's partition and offset, which distinguish readings that have neither a time nor
        a number of their own. `owner` is as in `parse_topic`. Without a form this is `validate`. Raises
        `Refused` for the whole message: its topic, or bytes that cannot be decoded.
        """
        if self._reader is None:
            return Outcome([(0, self.validate(topic, payload, timestamp_ms, limits))])
        if self.ignores(topic):
            return Outcome([])
        located = self.locate(topic, owner)
        if (presence := self._topics.presence(topic)) is not None:
            return Outcome([], online=presence.read(payload, limits))
        arrival = _time_of_record(timestamp_ms, self.time)
        elements = self._reader.elements(payload, located.names, limits, content_type)
        found: list[tuple[int, Reading[SourceT, RecordT] | Refused]] = []
        for index, element in enumerate(elements):
            try:
                if isinstance(element, Refused):
                    raise element
                values = self._reader.values(element, located.names, located.rest, arrival)
                if values is not None:
                    where = f"{place[0]}/{place[1]}/{index}"
                    found.append((index, self._reading(located, element, values, limits, where)))
            except Refused as refused:
                found.append((index, refused))
        return outcome(found, len(elements), limits)

    def _reading(
        self,
        located: Located[SourceT],
        element: Element,
        values: Values,
        limits: Limits,
        where: str,
    ) -> Reading[SourceT, RecordT]:
        fields = self.checked(values.fields, values.payload, limits)
        own_values = fields.__dict__
        time = own_values[self.time] = values.time
        for name in self.fingerprints:
            mark = where.encode()
            if values.timed:
                mark = _as_json([located.text, element.own, element.keys], limits)
            own_values[name] = fingerprint(mark)
        texts = [
            NULL if (value := own_values[name]) is None else encode(value) for name, encode in self.encoders
        ]
        if self._keeps_extra:
            extra_json = _as_json(values.extra, limits)
            if b"Infinity" in extra_json or b"NaN" in extra_json:
                refuse_faults(values.extra, limits)
            texts.append(escape(extra_json.decode()))
        line = "\t".join((time_text(time), *([located.text] if located.levels else []), *texts)).encode()
        source = self.source_of(located.source, fields)
        return Reading(source, time, own_values, values.payload, line + b"\n", fields)

    def ignores(self, topic: str) -> bool:
        """Whether messages on this topic are declared to hold no readings."""
        return self._topics.ignores(topic)

    def source_of(self, source: SourceT, fields: RecordT) -> SourceT:  # noqa: ARG002 - for what overrides it
        """The source of a reading: that of the topic, unless its fields name another. Raises `Refused`."""
        return source

    def owner_of(self, source: SourceT) -> str:  # noqa: ARG002 - for what overrides it
        """The owner of a source, for `locate`; empty if the topic names it."""
        return ""

    def whole(self, topic: str, reading: Reading[SourceT, RecordT]) -> RecordT:
        """The record with all its fields: those of the payload, those from the topic, and the time."""
        levels = self.locate(topic, self.owner_of(reading.source)).levels
        return reading.fields.model_copy(update={**levels, self.time: reading.time})

    def checked(self, values: dict[str, Any], whole: Any, limits: Limits) -> RecordT:
        """The fields of the payload, validated; `whole` is where a fault is looked for. Raises `Refused`."""
        try:
            try:
                return self._validated(values)
            except ValidationError as error:
                # JSON has one kind of number: 5922.0 is an integer as well. Rare, so only on failure.
                repaired = with_integers(values, error)
                if repaired is None:
                    raise
                return self._validated(repaired)
        except ValidationError as error:
            refuse_faults(whole, limits)
            labels = {} if self._reader is None else self._reader.labels
            raise refusal(error, self._members, labels) from None


def quoted(names: tuple[str, ...]) -> str:
    """Names as SQL lists them."""
    return ", ".join(f'"{name}"' for name in names)


def _as_json(value: Any, limits: Limits) -> bytes:
    """The value as JSON. Raises `Refused` for what JSON lacks, which a domain's function may have made."""
    try:
        return to_json(value)
    except PydanticSerializationError as error:
        refuse_faults(value, limits)
        raise Refused("InvalidField", f"the reading cannot be written as JSON: {error}") from None


def _time_of_record(timestamp_ms: int, name: str) -> datetime:
    if timestamp_ms >= 0:
        try:
            return EPOCH + timedelta(milliseconds=timestamp_ms)
        except OverflowError:
            pass
    reason = f"the payload has no `{name}`, nor has the Kafka record a valid timestamp ({timestamp_ms} ms)"
    raise Refused("InvalidTime", reason)


def _copy_into(table: str, names: str) -> str:
    return f"COPY \"{table}\" ({names}) FROM STDIN (FORMAT text, ENCODING 'UTF8')"
