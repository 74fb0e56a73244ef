"""The payloads of simulated devices: readings that look real, and messages bad in every way there is."""

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

NORMAL = (15, 30)
VIOLATING = (81, 95)
"""Degrees Celsius, whole, both ends included: a rule such as `temperature > 80` is violated by the second."""

_FIRMWARE = ("2.4.1", "2.4.1-rc2", "3.0.0")
_PLACES = ("Kühlraum", "冷蔵庫", "Étable", "Склад", "Sala de máquinas", "गोदाम")
_TAGS = ("cold-chain", "indoor", "solar", "gateway-3", "läger", "夜間")


class Clock:
    """Microseconds since 1970, each value handed out once: two messages never carry the same time."""

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._last = 0

    def next(self) -> int:
        """The time now, or one microsecond after the last one handed out if that is later."""
        self._last = max(self._now_ns() // 1000, self._last + 1)
        return self._last


class TimeText:
    """RFC 3339 in UTC with microseconds, as bytes; cheap when times come in order."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def __call__(self, microseconds: int) -> bytes:
        """The text of this many microseconds since 1970."""
        second, fraction = divmod(microseconds, 1_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
        return b"%s%06dZ" % (self._text, fraction)


class Readings:
    """Makes the readings of one device: about 250 bytes of JSON in UTF-8, the same for the same seed."""

    def __init__(self, name: str, rng: random.Random, time_text: TimeText) -> None:
        self._random = rng.random
        self._time_text = time_text
        unchanging = {
            "model": "TH-420",
            "firmware": rng.choice(_FIRMWARE),
            "location": {"lat": round(rng.uniform(-60, 70), 5), "lon": round(rng.uniform(-180, 180), 5)},
            "tags": rng.sample(_TAGS, 3),
            "name": f"{rng.choice(_PLACES)} {name}",
        }
        self._end = json.dumps(unchanging, ensure_ascii=False, separators=(",", ":"))[1:].encode()

    def good(self, sequence_id: int, microseconds: int, *, violating: bool = False) -> bytes:
        """A reading that becomes a row."""
        low, high = VIOLATING if violating else NORMAL
        chance = self._random()
        # Digits of one random number, because three calls would cost more than all the rest.
        digits = int(chance * 100_000_000)
        return b'{"sequence_id":%d,"time":"%s","temperature":%d.%02d,"battery":%d,"rssi":-%d,%s' % (
            sequence_id,
            self._time_text(microseconds),
            low + int(chance * (high - low + 1)),
            digits % 100,
            20 + digits // 100 % 80,
            40 + digits // 10_000 % 60,
            self._end,
        )


def _changed(**fields: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda reading: json.dumps({**reading, **fields}).encode()


def _without(field: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda reading: json.dumps({k: v for k, v in reading.items() if k != field}).encode()


def _text(spoil: Callable[[bytes], bytes]) -> Callable[[dict[str, Any]], bytes]:
    return lambda reading: spoil(json.dumps(reading).encode())


class BadMessages:
    """Turns readings into messages that must become dead letters, in every way in turn.

    `max_bytes` and `max_depth` are the limits that the pipeline refuses by; a `max_bytes` of `None`
    leaves out the message that is too large, for a broker that would not carry it. The large one comes
    only in every tenth turn, since it weighs as much as a thousand others.
    """

    def __init__(self, max_bytes: int | None, max_depth: int) -> None:
        self._ways: dict[str, Callable[[dict[str, Any]], bytes]] = {
            "cut short": _text(lambda text: text[:-9]),
            "not UTF-8": _text(lambda text: text.replace(b'"rssi"', b'"rs\xff\xfei"')),
            "garbage after it": _text(lambda text: text + b"}"),
            "an array": _text(lambda text: b"[" + text + b"]"),
            "a string": _text(lambda text: json.dumps(text.decode()).encode()),
            "sequence_id missing": _without("sequence_id"),
            "sequence_id text": lambda r: _changed(sequence_id=str(r["sequence_id"]))(r),
            "sequence_id boolean": _changed(sequence_id=True),
            "sequence_id fraction": lambda r: _changed(sequence_id=r["sequence_id"] + 0.5)(r),
            "sequence_id beyond 64 bits": lambda r: _changed(sequence_id=2**63 + r["sequence_id"])(r),
            "temperature text": _changed(temperature="21.5"),
            "battery boolean": _changed(battery=True),
            "battery fraction": _changed(battery=85.5),
            "battery beyond 32 bits": _changed(battery=2**31),
            "NaN": _changed(temperature=float("nan")),
            "infinity inside": _changed(location={"lat": float("-inf"), "lon": 0}),
            "number beyond double": _text(lambda text: text.replace(b'"rssi": -', b'"rssi": -1e999, "n": ')),
            "NUL": _changed(name="pump\0house"),
            "NUL in a name": _changed(**{"na\0me": 1}),
            "lone surrogate": _changed(name="pump \ud83d"),
            "impossible date": _changed(time="2026-02-30T10:00:00Z"),
            "time without offset": lambda r: _changed(time=r["time"].rstrip("Z"))(r),
            "time that no column holds": _changed(time="300000-01-01T00:00:00Z"),
            "time a number": _changed(time=1_767_225_600),
            "too deep": _changed(nested=_nested(max_depth + 5)),
            "foreign device": _changed(device_id="somebody-else"),
            "foreign user": _changed(user_id="somebody-else"),
        }
        self._large = None
        if max_bytes is not None:
            self._large = _changed(padding="x" * max_bytes)
        self._turns = self._turn()

    def next(self, good: bytes) -> tuple[str, bytes]:
        """Spoils a good reading: the way's name and the payload."""
        name, spoil = next(self._turns)
        return name, spoil(json.loads(good))

    def names(self) -> list[str]:
        """All the ways."""
        return [*self._ways, *(["too large"] if self._large else [])]

    def _turn(self) -> Iterator[tuple[str, Callable[[dict[str, Any]], bytes]]]:
        turn = 0
        while True:
            yield from self._ways.items()
            if self._large and turn % 10 == 0:
                yield "too large", self._large
            turn += 1


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
