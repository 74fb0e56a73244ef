"""Parses a payload into a JSON object that jsonb can hold exactly, or refuses it with the fault and its path.

A fast parser reads the ordinary payload. A payload that it cannot read, or that a cheap look at the bytes
makes suspicious, goes the slow way: Python's own parser, then a look at every value, to find the fault and
its path. The slow way has the last word, so the result never depends on which way a payload went.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import from_json

from tasks.domain.looks import hint
from tasks.text.wording import describe, dotted, shorten

# The types of messages that are refused before they are stored; docs/replay.md has every type.
ErrorType = Literal[
    "InvalidTopic",  # the topic does not name a source
    "UnknownOwner",  # no account's access list holds the topic, or those of several do
    "TooLarge",
    "RateLimited",  # the user's devices send too much; only the gateway refuses for this reason
    "InvalidJson",  # not UTF-8, not JSON, or more than one JSON value
    "NotAnObject",
    "TooDeep",
    "NotFinite",  # NaN, an infinity, or a number beyond double precision
    "NulCharacter",
    "LoneSurrogate",
    "ForeignClaim",  # the payload claims another source than its topic
    "MissingField",
    "InvalidField",  # a declared field has the wrong type
    "OutOfRange",
    "InvalidTime",
    "InvalidEncoding",  # not the CBOR, MessagePack, gzip, zlib or text that the domain declares
]

REASON_LENGTH = 300
# Below the limits of the parser (201) and the serializer (254), so that neither ever decides.
DEEPEST = 200
_NUMBERLESS = re.compile(r"[-+]?(?:nan|inf(?:inity)?)\b", re.IGNORECASE)


class Refused(Exception):
    """*Never*: this message does not become a row, and is a dead letter. Repeating the work does not help.

    `error_type` is a stable name for machines, `reason` a sentence of at most 300 characters for the device's
    developer: the field by its dotted path, what was expected, what came.
    """

    def __init__(self, error_type: ErrorType, reason: str) -> None:
        super().__init__(error_type, reason)
        self.error_type = error_type
        self.reason = shorten(reason, REASON_LENGTH)

    def __str__(self) -> str:
        return f"{self.error_type}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How large (bytes) and how deep (nested objects and arrays, itself being 1) a payload may be.

    Raises `ValueError` for a depth beyond 200.
    """

    max_bytes: int = 262_144
    max_depth: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.max_depth <= DEEPEST:
            raise ValueError(f"max_depth must be from 1 to {DEEPEST}, not {self.max_depth}")


def parse(payload: bytes, limits: Limits) -> dict[str, Any]:
    """The payload as an object: Unicode, nesting and integers exact, other numbers in double precision.

    If a key comes twice, the last value counts, as for jsonb. Raises `Refused`. One fault is left to
    `refuse_faults`, because a search in every payload would cost more than in the few suspicious ones: a
    number such as 1e999, which becomes an infinity.
    """
    if len(payload) > limits.max_bytes:
        raise Refused(
            "TooLarge", f"the payload has {len(payload)} bytes; at most {limits.max_bytes} are allowed"
        )
    value = parse_json(payload, limits)
    if type(value) is not dict:
        raise Refused("NotAnObject", f"the payload must be a JSON object, got {describe(value)}")
    return value


def parse_json(payload: bytes, limits: Limits) -> Any:
    """The same for a JSON value of any kind, of any length."""
    try:
        value = from_json(payload, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        value = _parse_slowly(payload)
        refuse_faults(value, limits)
    else:
        # Brackets in strings count here too: the sum is never below the depth, and rarely above the limit.
        brackets = payload.count(b"{") + payload.count(b"[")
        if b"\\u0000" in payload or (brackets > limits.max_depth and _is_deeper(value, limits.max_depth)):
            refuse_faults(value, limits)
    return value


def refuse_faults(value: Any, limits: Limits) -> None:
    """Raises `Refused` for the first value, in document order, that jsonb cannot hold or that is too deep."""
    waiting: list[tuple[Any, tuple[str | int, ...], int]] = [(value, (), 1)]
    while waiting:
        current, path, depth = waiting.pop()
        if isinstance(current, str):
            _refuse_text(current, path)
        elif isinstance(current, float):
            if not math.isfinite(current):
                raise Refused("NotFinite", f"{dotted(path)} must be a finite number in double precision")
        elif isinstance(current, dict | list):
            if depth > limits.max_depth:
                raise Refused(
                    "TooDeep", f"{dotted(path)} is nested deeper than the {limits.max_depth} levels allowed"
                )
            if isinstance(current, dict):
                for key in current:
                    _refuse_text(key, (*path, key))
            inner = current.items() if isinstance(current, dict) else enumerate(current)
            waiting += [(child, (*path, key), depth + 1) for key, child in inner][::-1]


def _parse_slowly(payload: bytes) -> Any:
    """Parses the payload and lets NaN, infinities and lone surrogates through, to find their path later."""
    if not payload:
        raise Refused("InvalidJson", "the payload is empty; it must be a JSON object")
    try:
        return json.loads(payload.decode())
    except UnicodeDecodeError as error:
        reason = f"the payload must be UTF-8, but byte {error.start} (0x{payload[error.start]:02x}) is not"
        reason += hint(payload)
        raise Refused("InvalidJson", reason) from None
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")
        reason = f"the payload must be JSON: {what} at line {error.lineno}, column {error.colno}"
        reason += hint(payload) or _nan_hint(payload, error.pos)
        raise Refused("InvalidJson", reason) from None
    except RecursionError:
        raise Refused("TooDeep", "the payload is nested far too deeply") from None
    except ValueError:
        # The parser's only error without its own class: Python's limit on the digits of an integer.
        raise Refused("OutOfRange", "the payload holds an integer of more than 4300 digits") from None


def _nan_hint(payload: bytes, position: int) -> str:
    """A hint at `nan` and the like, which the parser does not take for values."""
    word = _NUMBERLESS.match(payload.decode(), position)
    return f"; {word[0]} is not a number in JSON: leave the member out, or send null" if word else ""


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True


def _refuse_text(text: str, path: tuple[str | int, ...]) -> None:
    if "\0" in text:
        raise Refused(
            "NulCharacter", f"{dotted(path)} holds a NUL character (\\u0000), which cannot be stored"
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        reason = f"{dotted(path)} holds half of a surrogate pair (\\ud800 to \\udfff alone), not a character"
        raise Refused("LoneSurrogate", reason) from None
