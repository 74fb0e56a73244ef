"""How values, paths and ids read in a sentence. Pure."""

import hashlib
import re
from typing import Any


def dotted(path: tuple[str | int, ...]) -> str:
    """A path as it stands in a reason: "`location.lat`", printable whatever the keys hold."""
    if not path:
        return "the payload"
    return f"`{shorten('.'.join(printable(str(part)) for part in path), 120)}`"


def describe(value: Any) -> str:
    """Describes a value for a reason: its JSON type, and the value if it is short: `the string "on"`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            # Python writes no integer of more than 4300 digits.
            huge = type(value) is int and value.bit_length() > 10_000
            return "a number with thousands of digits" if huge else f"the number {shorten(repr(value), 32)}"
        case str():
            return f'the string "{printable(value)}"'
        case list():
            return "an array"
        case _:
            return "an object"


def shorten(text: str, length: int) -> str:
    """The text, cut to `length` characters if it is longer."""
    return text if len(text) <= length else text[: length - 1] + "…"


def printable(text: str) -> str:
    """The beginning of the text, with characters that cannot be shown or encoded escaped."""
    short = shorten(text, 40)
    return short if short.isprintable() else shorten(ascii(short)[1:-1], 40)


_NOT_IN_ID = re.compile(r"[\x00-\x1f\x7f-\x9f+#/\ud800-\udfff]")


def id_fault(text: str) -> str | None:
    """The fault of `text` as an id in a topic, as the end of a sentence; None if it is valid."""
    if not 1 <= len(text) <= 128:
        return f"must have 1 to 128 characters, not {len(text)}"
    if text.isspace():
        return "must not be blank"
    if _NOT_IN_ID.search(text):
        return "must not hold control characters, '+', '#' or '/'"
    return None


def safe(text: str) -> str:
    """The text without characters that a terminal would obey."""
    # Topics and payloads come from strangers, and a terminal obeys control characters.
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


# PostgreSQL keeps the first 63 bytes of an `application_name`, and of them what is printable ASCII.
MOST_OF_AN_APPLICATION = 63
_NOT_IN_APPLICATION = re.compile(rb"[^ -$&-~]")


def application(name: str) -> str:
    """The name as PostgreSQL keeps it: percent-encoded; a cut name ends in a hash."""
    given = name.encode(errors="surrogatepass")
    kept = _NOT_IN_APPLICATION.sub(lambda one: b"%%%02X" % one[0][0], given).decode()
    if len(kept) <= MOST_OF_AN_APPLICATION:
        return kept
    mark = f"~{hashlib.sha256(given).hexdigest()[:10]}"
    return kept[: MOST_OF_AN_APPLICATION - len(mark)] + mark
