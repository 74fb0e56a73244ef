"""Payloads of devices in the field, to the default domain: the reason names what was wrong."""

import gzip

import pytest

from tasks.domain.payload import Limits, Refused
from tasks.telemetry import DOMAIN


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b'{"sequence_id":1,"time":1751373296}', "`time` must be a string with an ISO 8601 time"),
        (b'{"sequence_id":1,"time":"1751373296"}', "`time` must be a string with an ISO 8601 time"),
        (b'{"time":"2026-11-20 20:26:42","sequence_id":3}', "`time` must end in Z or a UTC offset"),
        (b'{"sequence_id":"5922"}', "`sequence_id` must be a 64-bit integer"),
        (b'{"sequence_id":5,"battery":"100.00"}', "`battery` must be a 32-bit integer"),
        (b'{"sequence_id":5,"battery":85.5}', "a domain that declares it as `Double` takes fractions"),
        (b'{"sequence_id":5,"battery":1e12}', "`battery` must be a 32-bit integer, got the number 1"),
        (b'{"sequence_id":6,"B":{"T":nan,"H":nan}}', "nan is not a number in JSON"),
        (b'{"sequence_id":6,"signal":NaN}', "`signal` must be a finite number"),
        (b'[{"sequence_id":1}]', "must be a JSON object, got an array"),
        (gzip.compress(b'{"sequence_id":1}', mtime=0), "it looks like gzip"),
        (b'{"sequence_id":1,"temperature":1}\0', "a NUL byte follows it"),
        (b'\xef\xbb\xbf{"sequence_id":1}', "a byte order mark"),
    ],
)
def test_the_default_domain_stays_strict_and_says_why(payload: bytes, words: str) -> None:
    """Nothing is guessed, and the sentence says what to change."""
    with pytest.raises(Refused) as caught:
        DOMAIN.validate("users/a/devices/b/telemetry", payload, 0, Limits())
    assert words in caught.value.reason


@pytest.mark.parametrize(
    "payload",
    [b'{"sequence_id":5922.0}', b'{"sequence_id":1,"time":"2026-11-20T10:00Z"}', b'{"sequence_id":1e3}'],
)
def test_what_is_harmless_is_taken(payload: bytes) -> None:
    """An integer with a point, and a time without seconds."""
    assert DOMAIN.validate("users/a/devices/b/telemetry", payload, 0, Limits())
