"""Kinds of columns: what each takes, what it refuses with which words, and its COPY text."""

import json
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from tasks.domain.columns import (
    Bigint,
    Boolean,
    Double,
    Geometry,
    GeoPoint,
    Integer,
    Json,
    Numeric,
    Point,
    Text,
    Time,
    TopicLevel,
    Uuid,
    parse_time,
    sql,
    time_text,
)
from tasks.domain.declaration import Declaration
from tasks.domain.payload import Limits, Refused
from tasks.domain.record import Record
from tests.copy_text import decode_line
from tests.payloads import TEXTS, VALUES, written

TOPIC = "things/a"
UUID = "0b81e6c2-4b1c-4b5c-8f7a-3a4a5b6c7d8e"


class Colour(StrEnum):
    """An enumeration."""

    RED = "red"
    BLUE = "blue"


class Everything(Record):
    """One field of each kind."""

    id: TopicLevel
    time: Time | None = None
    bigint: Bigint | None = None
    integer: Integer | None = None
    double: Double | None = None
    numeric: Numeric | None = None
    text: Text | None = None
    boolean: Boolean | None = None
    uuid: Uuid | None = None
    json_value: Json | None = None
    colour: Colour | None = None
    size: Literal["S", "M"] | None = None
    words: list[Text] | None = None
    counts: list[list[Integer]] | None = None
    matrix: list[list[Double | None]] | None = None
    flags: list[Colour] | None = None
    place: Point | None = None
    geo_point: GeoPoint | None = None
    geometry: Geometry | None = None
    address: Annotated[str, Field(strict=True), sql("inet", "an IP address")] | None = None
    renamed: Bigint | None = Field(None, alias="from")


EVERYTHING: Declaration[dict[str, str], Everything] = Declaration(
    Everything, dict, topic="things/{id}", table="everything", primary_key=("time", "id"), extra=None
)


def stored(field: str, value: Any) -> str | None:
    """The text of the field's column, decoded from COPY's format."""
    reading = EVERYTHING.validate(TOPIC, written({field: value}), 0, Limits())
    name = "renamed" if field == "from" else field
    return decode_line(reading.copy_line)[EVERYTHING.columns.index(name)]


def reason(field: str, value: Any) -> str:
    """Why the value is refused."""
    with pytest.raises(Refused) as caught:
        EVERYTHING.validate(TOPIC, written({field: value}), 0, Limits())
    return caught.value.reason


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("bigint", 2**63 - 1, "9223372036854775807"),
        ("integer", -(2**31), "-2147483648"),
        ("double", 5, "5.0"),
        ("numeric", "12345678901234567890.0123456789", "12345678901234567890.0123456789"),
        ("numeric", 0.1, "0.1"),
        ("numeric", 10**30, "1" + 30 * "0"),
        ("text", "a\tb\\N\n", "a\tb\\N\n"),
        ("boolean", True, "t"),
        ("boolean", False, "f"),
        ("uuid", UUID.upper(), UUID),
        ("json_value", {"a": ["\\ \n", 1.5]}, r'{"a":["\\ \n",1.5]}'),
        ("json_value", "text", '"text"'),
        ("colour", "blue", "blue"),
        ("size", "S", "S"),
        ("words", ['say "hi"', "a,b", "{}", "\\", "", "NULL"], r'{"say \"hi\"","a,b","{}","\\","","NULL"}'),
        ("words", [], "{}"),
        ("matrix", [[1, None], [2.5, 3]], "{{1.0,NULL},{2.5,3.0}}"),
        ("flags", ["red", "red"], '{"red","red"}'),
        ("place", "POINT(8.54 47.38)", "(8.54,47.38)"),
        ("place", {"type": "Point", "coordinates": [8, -47.5]}, "(8.0,-47.5)"),
        ("geo_point", " srid=4326; point ( 8.54  47.38 )", "SRID=4326;POINT(8.54 47.38)"),
        ("geometry", "LINESTRING(0 0,1 1)", "LINESTRING(0 0,1 1)"),
        (
            "geometry",
            {"type": "Point", "coordinates": [8.5, 47]},
            '{"type":"Point","coordinates":[8.5,47]}',
        ),
        ("address", "10.0.0.1", "10.0.0.1"),
        ("from", 7, "7"),
    ],
)
def test_what_a_column_gets(field: str, value: Any, text: str) -> None:
    """Each kind is written as PostgreSQL reads it."""
    assert stored(field, value) == text


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("bigint", 2**63, "must be a 64-bit integer, got the number 9223372036854775808"),
        ("bigint", True, "must be a 64-bit integer, got true"),
        ("integer", 2**31, "must be a 32-bit integer, got the number 2147483648"),
        ("double", "1", 'must be a finite number, got the string "1"'),
        ("numeric", True, "must be a finite number, or a string with one, got true"),
        ("numeric", "NaN", 'must be a finite number, or a string with one, got the string "NaN"'),
        ("text", 5, "must be a string, got the number 5"),
        ("boolean", 1, "must be true or false, got the number 1"),
        ("boolean", "true", 'must be true or false, got the string "true"'),
        ("uuid", "0b81", 'must be a UUID in a string, got the string "0b81"'),
        ("uuid", 5, "must be a UUID in a string, got the number 5"),
        ("colour", "green", 'must be one of red, blue, got the string "green"'),
        ("colour", 1, "must be one of red, blue, got the number 1"),
        ("size", "L", 'must be one of S, M, got the string "L"'),
        ("words", "word", 'must be an array, each element a string, got the string "word"'),
        ("words", {"0": "word"}, "must be an array, each element a string, got an object"),
        ("place", "POINT(8)", "must be a point, as WKT"),
        ("place", {"type": "Point", "coordinates": [1, 2, 3]}, "must be a point, as WKT"),
        ("place", {"type": "Point", "coordinates": [1, True]}, "must be a point, as WKT"),
        ("place", {"type": "Point"}, "must be a point, as WKT"),
        ("place", "POINT(1e999 0)", "must be a point, as WKT"),
        ("geometry", 5, "must be a geometry, as WKT in a string or as a GeoJSON object, got the number 5"),
        ("address", 5, "must be an IP address, got the number 5"),
        ("from", "x", 'must be a 64-bit integer, got the string "x"'),
    ],
)
def test_what_a_column_refuses(field: str, value: Any, sentence: str) -> None:
    """The reason names the field by its name in the payload, what it must be, and what came."""
    assert reason(field, value).startswith(f"`{field}` {sentence}")


def test_an_element_is_named_by_its_place() -> None:
    """A fault deep in an array is reported where it is."""
    assert reason("words", ["a", 5]) == "`words.1` must be a string, got the number 5"
    assert reason("matrix", [[1], ["x"]]) == '`matrix.1.0` must be a finite number, got the string "x"'


def test_integers_of_an_array_may_be_written_with_a_point() -> None:
    """All of them; a fraction among them is named."""
    assert stored("counts", [[1.0, 2, 3.0], [4.0]]) == "{{1,2,3},{4}}"
    assert reason("counts", [[1.0], [2.0, 2.5]]).startswith("`counts.1.1` must be a 32-bit integer, got ")


def test_a_reason_does_not_name_an_integer_that_is_written_with_a_point() -> None:
    """Only what is wrong beside it."""
    with pytest.raises(Refused) as caught:
        EVERYTHING.validate(TOPIC, written({"bigint": 5.0, "text": 5}), 0, Limits())
    assert caught.value.reason == "`text` must be a string, got the number 5"


def test_an_infinity_is_found_wherever_it_is() -> None:
    """JSON has no infinities, but 1e999 is one in double precision: also in a JSON column."""
    with pytest.raises(Refused, match=r"NotFinite: `json_value\.a\.0`"):
        EVERYTHING.validate(TOPIC, b'{"json_value": {"a": [1e999]}}', 0, Limits())


@given(value=VALUES.filter(lambda value: value is not None))
def test_json_comes_back_equal(value: Any) -> None:
    """Any JSON but null survives the way to COPY's text."""
    text = stored("json_value", value)
    assert text is not None
    assert json.loads(text) == value


@given(words=st.lists(st.none() | TEXTS, max_size=5))
def test_no_text_breaks_out_of_an_array(words: list[str | None]) -> None:
    """Quotes, backslashes, commas and braces of an element stay in it."""
    if None in words:
        assert "must be a string, got null" in reason("words", words)
        return
    text = stored("words", words)
    assert text is not None
    assert elements(text) == words


def elements(literal: str) -> list[str]:
    """The elements of an array's literal, all of them quoted, by PostgreSQL's rules."""
    assert literal[0] + literal[-1] == "{}"
    found: list[str] = []
    rest = literal[1:-1]
    while rest:
        assert rest[0] == '"'
        word, at = "", 1
        while rest[at] != '"':
            at += rest[at] == "\\"
            word += rest[at]
            at += 1
        found.append(word)
        rest = rest[at + 1 :].removeprefix(",")
    return found


def test_a_domains_own_validator_speaks_for_itself() -> None:
    """Its exception is the reason, after the name of the field."""

    class Cold(Record):
        """A field with a rule of its own."""

        id: TopicLevel
        time: Time | None = None
        celsius: Double

        @field_validator("celsius")
        @classmethod
        def _possible(cls, celsius: float) -> float:
            if celsius < -273.15:
                raise ValueError("colder than it gets")
            return celsius

    cold: Declaration[dict[str, str], Cold] = Declaration(
        Cold, dict, topic="things/{id}", table="cold", primary_key=("time", "id")
    )
    with pytest.raises(Refused, match="InvalidField: `celsius`: colder than it gets"):
        cold.validate(TOPIC, b'{"celsius": -300}', 0, Limits())


def test_members_that_no_field_declares_are_left_out_where_nobody_wants_them() -> None:
    """A declaration without a column for the rest stores the fields alone."""
    reading = EVERYTHING.validate(TOPIC, b'{"bigint": 1, "other": {"x": 2}}', 0, Limits())
    assert len(decode_line(reading.copy_line)) == len(EVERYTHING.columns)
    assert reading.payload["other"] == {"x": 2}


@pytest.mark.parametrize(
    "text", ["2026-11-20T10:00Z", "2026-11-20t10:00z", "2026-11-20 12:00+02:00", "2026-11-20T09:30-00:30"]
)
def test_a_time_without_seconds_is_the_minute_s_first(text: str) -> None:
    """ISO 8601 allows it, and the row is the same as with seconds."""
    assert parse_time(text) == parse_time("2026-11-20T10:00:00Z")
    assert time_text(parse_time(text)) == "2026-11-20T10:00:00Z"


@pytest.mark.parametrize(
    "text", ["2026-11-20T10:00", "2026-11-20T10:00.5Z", "2026-11-20T10Z", "2026-11-20T1:00Z"]
)
def test_less_of_a_time_is_none(text: str) -> None:
    """Without an offset nobody knows when it was; other forms no two parsers read alike."""
    with pytest.raises(PydanticCustomError):
        parse_time(text)
