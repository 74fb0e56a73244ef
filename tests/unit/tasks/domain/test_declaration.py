"""Declarations: table, key, COPY and refusals follow from the fields of one model."""

from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from tasks.domain.columns import Bigint, Double, Text, Time, TopicLevel
from tasks.domain.declaration import Declaration
from tasks.domain.payload import Limits, Refused
from tasks.domain.record import Record
from tasks.text.wording import id_fault
from tests.copy_text import decode_line
from tests.payloads import IDS, TEXTS, written


class Market(NamedTuple):
    """Where a tick comes from."""

    exchange: str
    symbol: str


class Tick(Record):
    """Another domain, declared as a team would."""

    exchange: TopicLevel
    symbol: TopicLevel
    time: Time | None = None
    trade_id: Bigint
    price: Double
    venue: Text | None = None
    settled: Time | None = None


TICKS = Declaration(
    Tick,
    Market,
    topic="markets/{exchange}/{symbol}/ticks",
    table="ticks",
    primary_key=("time", "exchange", "symbol", "trade_id"),
    extra="rest",
)


class Labelled(Record):  # type: ignore[no-redef]
    """A model whose field is called in the payload as a level of the topic is."""

    device_id: TopicLevel
    user_id: TopicLevel
    time: Time | None = None
    hardware: Text = Field(validation_alias="device_id")


def test_a_field_of_the_payload_is_no_claim_whatever_it_is_called() -> None:
    """Only what no field declares can claim another source."""
    labelled = Declaration(
        Labelled,
        lambda user_id, device_id: (user_id, device_id),
        topic="{user_id}/{device_id}",
        table="labelled",
        primary_key=("time", "user_id"),
    )
    for document in ({"device_id": "hw"}, {"device_id": "hw", "user_id": "u"}):
        assert labelled.validate("u/d", written(document), 0, Limits()).source == ("u", "d")
    with pytest.raises(Refused, match="`user_id` is"):
        labelled.validate("u/d", written({"device_id": "hw", "user_id": "other"}), 0, Limits())


def test_a_declaration_gives_the_sql() -> None:
    """Columns stand in the order time, ids, fields, extra, and the statements name them."""
    names = '"time", "exchange", "symbol", "trade_id", "price", "venue", "settled", "rest"'
    assert TICKS.columns == ("time", "exchange", "symbol", "trade_id", "price", "venue", "settled", "rest")
    assert TICKS.copy == f"COPY \"ticks\" ({names}) FROM STDIN (FORMAT text, ENCODING 'UTF8')"
    assert TICKS.copy_staged == f"COPY \"ticks_staged\" ({names}) FROM STDIN (FORMAT text, ENCODING 'UTF8')"
    assert TICKS.stage == (
        'CREATE TEMPORARY TABLE "ticks_staged" (LIKE "ticks" INCLUDING DEFAULTS, '
        '"#" integer GENERATED ALWAYS AS IDENTITY) ON COMMIT DROP'
    )
    key = '"time", "exchange", "symbol", "trade_id"'
    assert TICKS.insert_staged == (
        f'INSERT INTO "ticks" ({names}) SELECT {names} FROM "ticks_staged" '
        f'ORDER BY {key}, "#" ON CONFLICT ({key}) DO NOTHING'
    )


@given(venue=TEXTS, exchange=IDS, symbol=IDS)
@example(venue="\\t\t\\n\n\\r\r\\\\", exchange="\\t", symbol="\\N")
def test_text_comes_back_from_copy_text(venue: str, exchange: str, symbol: str) -> None:
    """Text, in fields and in ids, survives COPY's escapes: tabs, line ends, backslashes, `\\N`."""
    payload = written({"trade_id": 1, "price": 2, "venue": venue, "settled": "2026-05-01T12:00:00+02:00"})
    reading = TICKS.validate(f"markets/{exchange}/{symbol}/ticks", payload, 0, Limits())
    assert decode_line(reading.copy_line) == [
        *("1970-01-01T00:00:00Z", exchange, symbol, "1", "2.0", venue, "2026-05-01T10:00:00Z", "{}"),
    ]
    assert reading.source == Market(exchange, symbol)


def test_a_null_is_not_the_text_of_a_null() -> None:
    r"""An absent text is SQL's NULL; the text `\N` is text."""
    topic, limits = "markets/x/y/ticks", Limits()
    absent = TICKS.validate(topic, written({"trade_id": 1, "price": 2}), 0, limits)
    named = TICKS.validate(topic, written({"trade_id": 1, "price": 2, "venue": r"\N"}), 0, limits)
    assert decode_line(absent.copy_line)[5] is None
    assert decode_line(named.copy_line)[5] == r"\N"


def test_reasons_come_from_the_declaration() -> None:
    """Every wrong field is named with what it must be; the first one declared gives the type."""
    with pytest.raises(Refused) as caught:
        TICKS.validate("markets/x/y/ticks", b'{"venue": 5, "price": "1"}', 0, Limits())
    assert caught.value.error_type == "MissingField"
    assert caught.value.reason == (
        "`trade_id` is missing; it must be a 64-bit integer; "
        '`price` must be a finite number, got the string "1"; '
        "`venue` must be a string, got the number 5"
    )


def test_a_declaration_that_cannot_work_is_refused() -> None:
    """An unknown kind of field, a name used twice, or a key that is not a column fails when declared."""

    class Odd(Record):
        """A field that no column can hold."""

        exchange: TopicLevel
        symbol: TopicLevel
        time: Time | None = None
        thing: dict[str, int]

    with pytest.raises(TypeError, match="thing"):
        Declaration(Odd, Market, topic="{exchange}/{symbol}", table="odd", primary_key=("time",))
    for topic, key, time, fault in (
        ("{exchange}/{price}", ("time",), "time", "must be those in braces"),
        ("{exchange}/{symbol}", ("nothing",), "time", "nothing"),
        ("{exchange}/{symbol}", ("time", "venue"), "time", "venue"),
        ("{exchange}/{symbol}", ("time",), "price", "price"),
        ("{exchange}/{symbol}", ("time",), "when", "when"),
    ):
        with pytest.raises(TypeError, match=fault):
            Declaration(Tick, Market, topic=topic, table="odd", primary_key=key, time=time)
    with pytest.raises(TypeError, match="twice"):
        Declaration(
            Tick, Market, topic="{exchange}/{symbol}", table="odd", primary_key=("time",), extra="price"
        )


@pytest.mark.parametrize(
    "text", ["", "x" * 129, " ", "\t", "a+b", "#", "a/b", "a\x00", "a\x7f", "\x85", "\ud800", "\n"]
)
def test_bad_ids(text: str) -> None:
    """Ids are 1 to 128 characters without wildcards, slashes, control characters or halves of characters."""
    assert id_fault(text) is not None


@given(text=IDS | st.sampled_from(["x", "x" * 128, "ä b", "雪", "\U0001f600", "a\\tb", "\\N", "%", "'"]))
def test_good_ids(text: str) -> None:
    """Everything else is an id."""
    assert id_fault(text) is None
