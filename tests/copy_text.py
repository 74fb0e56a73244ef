"""A decoder of COPY's text format, written from PostgreSQL's documentation of it and from nothing of ours."""

import re

_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)


def decode_line(line: bytes) -> list[str | None]:
    """The fields of one line; None is SQL's NULL. Fails unless it is exactly one line."""
    assert line.endswith(b"\n")
    body = line[:-1]
    assert b"\n" not in body
    assert b"\r" not in body
    return [
        None if field == rb"\N" else _ESCAPE.sub(_unescaped, field).decode() for field in body.split(b"\t")
    ]


def _unescaped(found: re.Match[bytes]) -> bytes:
    hexadecimal, octal, other = found.groups()
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    letter: bytes = other
    return _SIMPLE[letter.decode()].encode() if letter.decode("latin-1") in _SIMPLE else letter
