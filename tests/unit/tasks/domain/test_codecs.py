"""Bytes become values, or are refused and named; no bomb unpacks beyond the limits."""

import gzip
import json
import math
import zlib
from typing import Any

import cbor2
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.codecs import ENCODINGS, Encoding, decode
from tasks.domain.payload import Limits, Refused, parse, refuse_faults
from tests.payloads import DOUBLES, TEXTS, written

LIMITS = Limits(max_bytes=4096, max_depth=8)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | DOUBLES
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ENCODERS: dict[Encoding, Any] = {"json": written, "cbor": cbor2.dumps, "msgpack": msgpack.packb}


def refusal(payload: bytes, *encodings: Encoding, **options: Any) -> Refused:
    """Why the bytes are refused."""
    with pytest.raises(Refused) as caught:
        decode(payload, encodings or ("json",), LIMITS, **options)
    return caught.value


@given(value=PLAIN, encoding=st.sampled_from(sorted(ENCODERS)), packing=st.sampled_from(["", "gzip", "zlib"]))
def test_each_encoding_gives_the_same_value(value: Any, encoding: Encoding, packing: str) -> None:
    """By declaration, and compressed or not."""
    payload = ENCODERS[encoding](value)
    if packing:
        payload = gzip.compress(payload) if packing == "gzip" else zlib.compress(payload)
    assert decode(payload, (encoding, "gzip", "zlib"), Limits()) == value


@given(
    payload=st.binary(max_size=200)
    | PLAIN.map(cbor2.dumps)
    | PLAIN.map(msgpack.packb)
    | st.binary(max_size=99).map(gzip.compress),
    encodings=st.lists(st.sampled_from(ENCODINGS), min_size=1, max_size=3, unique=True),
    content_type=st.sampled_from(["", "application/cbor", "application/json", "text/plain; charset=utf-8"]),
    nan=st.booleans(),
    raw=st.booleans(),
)
def test_any_bytes_are_a_value_or_refused(
    payload: bytes, encodings: list[Encoding], content_type: str, nan: bool, raw: bool
) -> None:
    """Nothing else is raised, and a value is one that jsonb can hold."""
    try:
        value = decode(payload, tuple(encodings), LIMITS, content_type=content_type, nan=nan, raw_text=raw)
    except Refused:
        return
    json.dumps(value)
    refuse_faults(value, LIMITS)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_bomb_is_bounded(compress: Any) -> None:
    """A hundred megabytes in a hundred kilobytes are never unpacked."""
    bomb = compress(b"0" * 100_000_000)
    with pytest.raises(Refused, match="TooLarge: the payload decompresses to more than the 262144 bytes"):
        decode(bomb, ("json", "gzip", "zlib"), Limits())


@pytest.mark.parametrize(
    "payload",
    [
        b"\x9b\x00\x00\x00\x7f\xff\xff\xff\xff",  # an array of 2^39
        b"\x5b\x00\x00\x00\x7f\xff\xff\xff\xff",  # as many bytes
        b"\x81" * 3000 + b"\x01",
        b"\xc1" * 3000 + b"\x01",
        b"\xd8\x1c\x81\xd8\x1d\x00",  # an array that holds itself
        b"\xc5\x82\x1a\x7f\xff\xff\xff\x01",  # 2 to the power of 2^31
    ],
)
def test_cbor_that_costs_more_than_its_bytes(payload: bytes) -> None:
    """Lengths that are not there, depth, loops and powers: a small value, or refused at once."""
    try:
        assert len(json.dumps(decode(payload, ("cbor",), LIMITS))) < 100
    except Refused as refused:
        assert refused.error_type in {"InvalidEncoding", "TooDeep"}  # noqa: PT017 - either is right


def test_what_json_does_not_have() -> None:
    """Bytes are base64, keys text, times as they were written, and NaN null where the domain says so."""
    payload = cbor2.dumps({1: b"\x00\xff", "t": cbor2.CBORTag(0, "2026-11-20T10:00:00Z"), "nan": math.nan})
    value = decode(payload, ("cbor",), LIMITS, nan=True)
    assert value == {"1": "AP8=", "t": "2026-11-20T10:00:00Z", "nan": None}
    assert refusal(payload, "cbor").error_type == "NotFinite"
    assert decode(msgpack.packb({"b": b"\x00", "t": msgpack.Timestamp(1, 0)}), ("msgpack",), LIMITS) == {
        "b": "AA==",
        "t": None,
    }


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"21.5", 21.5),
        (b" 63 \n", 63),
        ("21.5 °C".encode(), {"value": 21.5, "unit": "°C"}),
        (b"21,5", 21.5),
        (b"ON", "ON"),
        (b'"21.5"', 21.5),
        (b"true", True),
        (b"null", None),
        (b'{"state": "ON"}', {"state": "ON"}),
        (b"\xef\xbb\xbf7\0", 7),
    ],
)
def test_text(payload: bytes, value: Any) -> None:
    """A number, a word, or the JSON that some send on the same topics."""
    assert decode(payload, ("text",), LIMITS, comma=True) == value


def test_text_as_it_is() -> None:
    """For a function of the domain that knows more."""
    assert decode(b" 1.10 ", ("text",), LIMITS, raw_text=True) == "1.10"


def test_bare_nan_in_json() -> None:
    """Null where NaN is declared absent; texts are left alone."""
    payload = b'{"a": nan, "b": [-NaN, inf, -Infinity], "c": "nan, inf", "nano": "x\\"nan"}'
    assert decode(payload, ("json",), LIMITS, nan=True) == {
        "a": None,
        "b": [None, None, None],
        "c": "nan, inf",
        "nano": 'x"nan',
    }
    assert refusal(b'{"a": nan}').reason.endswith(
        "nan is not a number in JSON: leave the member out, or send null"
    )
    assert refusal(b'{"a": nano}', nan=True).error_type == "InvalidJson"


@pytest.mark.parametrize(
    ("payload", "looks"),
    [
        (gzip.compress(b"{}", mtime=0), "it looks like gzip"),
        (zlib.compress(b"{}"), "it looks like zlib"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "it looks like zstd"),
        (cbor2.dumps({"temperature": 21.5}), "it looks like CBOR"),
        (msgpack.packb({"temperature": 21.5}), "it looks like MessagePack"),
        (b"\x0a\x03abc\x10\x02", "it looks like Protobuf"),
        ('{"a": 1}'.encode("utf-16"), "it looks like UTF-16"),
    ],
)
def test_other_bytes_are_named(payload: bytes, looks: str) -> None:
    """The reason says what a device maker would have to declare, or to leave out."""
    assert looks in refusal(payload).reason


@pytest.mark.parametrize(
    ("payload", "why"),
    [(b'\xef\xbb\xbf{"a": 1}', "a byte order mark (EF BB BF)"), (b'{"a": 1}\0', "a NUL byte follows it")],
)
def test_harmless_bytes_around_json(payload: bytes, why: str) -> None:
    """A form takes them; the default domain names them."""
    assert decode(payload, ("json",), LIMITS) == {"a": 1}
    with pytest.raises(Refused) as caught:
        parse(payload, LIMITS)
    assert why in caught.value.reason


@pytest.mark.parametrize("payload", [b'\n  {"a": }', b"hello", b'{"a": 1', "ä".encode("latin-1")])
def test_broken_json_looks_like_nothing_else(payload: bytes) -> None:
    """No guess is better than a wrong one."""
    assert "looks like" not in refusal(payload).reason


def test_the_content_type_decides_among_the_declared() -> None:
    """And has no say about what the domain does not declare."""
    payload = cbor2.dumps({"a": 1})
    assert decode(payload, ("json", "cbor"), LIMITS, content_type="application/CBOR; x=1") == {"a": 1}
    assert refusal(payload, "json", content_type="application/cbor").error_type == "InvalidJson"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (gzip.compress(b"{}", mtime=0)[:-9], "the compressed payload is cut off"),
        (gzip.compress(b"{}", mtime=0) + b"x", "bytes follow the compressed payload"),
        (b"\x1f\x8b\x08\xffgarbage", "cannot be decompressed"),
    ],
)
def test_compressed_bytes_that_are_wrong(payload: bytes, reason: str) -> None:
    """With what is wrong."""
    found = refusal(payload, "json", "gzip")
    assert found.error_type == "InvalidEncoding"
    assert reason in found.reason


def test_bytes_that_go_on_or_end_too_soon() -> None:
    """One message is one value."""
    assert "more than one CBOR value" in refusal(b"\x01\x02", "cbor").reason
    assert "cut off" in refusal(cbor2.dumps({"a": 1})[:-1], "cbor").reason
    assert "more than one MessagePack value" in refusal(b"\x01\x02", "msgpack").reason
    assert "cut off" in refusal(msgpack.packb({"a": 1})[:-1], "msgpack").reason
