"""A fast way from an ordinary message to its reading: a few looks at its values instead of a validator. Pure.

It is derived from the schema that pydantic made of a domain's record, and returns either the reading that
`Declaration.validate` returns, or None where a look does not prove that. It never refuses a payload: the
verdict is always `validate`'s. A domain with a form, or whose schema holds anything unknown, has no fast way.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from msgspec.json import Decoder
from pydantic_core import PydanticCustomError, to_json

from tasks.domain.columns import NULL, parse_time, time_text
from tasks.domain.declaration import EPOCH, Declaration, Reading
from tasks.domain.payload import Limits
from tasks.domain.schema import KnownField, known_fields

# From topic, payload, the record's timestamp in ms and limits to the reading, or to None. Raises `Refused`
# for the topic only.
FastWay = Callable[[str, bytes, int, Limits], "Reading[Any, Any] | None"]

# The zones of a time in UTC.
_ZEROS = ("Z", "+00:00")
# Like a regular expression, the way of a domain is compiled once: a loop over its fields would cost a third
# more for each message.
_HEAD = """
def read(topic, payload, timestamp_ms, limits):
    source, levels, level_text, _, _ = locate(topic)
    if len(payload) > limits.max_bytes or payload.count(b"{") + payload.count(b"[") > limits.max_depth:
        return None
    if BACKSLASH in payload and b"\\\\u0000" in payload:
        return None
    try:
        values = decode_json(payload)
    except ValueError:
        return None
    if type(values) is not dict:
        return None
    extra = values.copy()
    take = extra.pop
    own_time = time = take(time_name, None)
    if time is None:
        if not optional_time or not 0 <= timestamp_ms < LATEST_MS:
            return None
        time = EPOCH + timedelta(milliseconds=timestamp_ms)
        time_text = text_of(time)
    else:
        found = moment(time)
        if found is None:
            return None
        time, time_text = found
        own_time = time
"""
_FIELD = """
    v = v{n} = take({name!r}, None)
    if v is None:
        {null}
    elif {proven}:
        t{n} = {text}
"""
# After the field of a double: an integer up to 2**53, all of which it holds.
_OR_INTEGER = """
    elif type(v) is int and -9007199254740992 <= v <= 9007199254740992:
        v{n} = float(v)
        t{n} = {text}
"""
# After the field of an integer: a float such as 5922.0.
_OR_INTEGRAL = """
    elif type(v) is float and -9007199254740992.0 <= v <= 9007199254740992.0 and v.is_integer():
        v = v{n} = int(v)
        if not ({proven}):
            return None
        t{n} = {text}
"""
_ELSE = """
    else:
        return None
"""
_LEVEL = """
    v = take({name!r}, None)
    if v is not None and v != levels[{name!r}]:
        return None
"""
_EXTRA = """
    extra_json = to_json(extra)
    if CAPITAL_I in extra_json and b"Infinity" in extra_json:
        return None
    if BACKSLASH in extra_json:
        extra_json = extra_json.replace(b"\\\\", b"\\\\\\\\")
"""
_TAIL = """
    # At half the cost of a named tuple's own constructor.
    return new_tuple(Reading, (source, time, {{{values}}}, values, {line}, record))
"""


@lru_cache(64)
def fast_way(domain: Declaration[Any, Any]) -> FastWay:
    """The fast way of a domain; without one, the way that always returns None."""
    known = known_fields(domain)
    if known is None:
        return lambda topic, payload, timestamp_ms, limits: None  # noqa: ARG005 - as every way takes them
    scope: dict[str, Any] = {
        **_SCOPE,
        **{f"encode{n}": encode for n, (_, encode) in enumerate(domain.encoders)},
        "locate": domain.locate,
        "record": domain.record,
        "time_name": domain.time,
        "optional_time": known[domain.time].nullable,
    }
    code = compile(_code(domain, known), f"<fast way into {domain.table}>", "exec")
    exec(code, scope)  # noqa: S102 - made of the declaration alone, whose names are quoted by repr
    way: FastWay = scope["read"]
    return way


def _code(domain: Declaration[Any, Any], known: Mapping[str, KnownField]) -> str:
    code = [_HEAD]
    for n, (name, encode) in enumerate(domain.encoders):
        field = known[name]
        text = f"repr(v{n})" if encode is repr else f"encode{n}(v{n})"
        null = f"t{n} = NULL" if field.nullable else "return None"
        code.append(_FIELD.format(n=n, name=name, null=null, proven=field.proven, text=text))
        if field.kind == "float":
            code.append(_OR_INTEGER.format(n=n, text=text))
        if field.kind == "int":
            code.append(_OR_INTEGRAL.format(n=n, proven=field.proven, text=text))
        code.append(_ELSE)
    code += [_LEVEL.format(name=name) for name in domain.levels]
    cells = "\\t".join(["{time_text}", "{level_text}", *(f"{{t{n}}}" for n in range(len(domain.encoders)))])
    line = f'f"{cells}\\n".encode()'
    if domain.extra is not None:
        code.append(_EXTRA)
        line = f'f"{cells}\\t".encode() + extra_json + b"\\n"'
    variables = {name: f"v{n}" for n, (name, _) in enumerate(domain.encoders)} | {domain.time: "own_time"}
    values = ", ".join(f"{name!r}: {variables[name]}" for name in known)
    code.append(_TAIL.format(values=values, line=line))
    return "".join(code)


def _moment(text: Any) -> tuple[datetime, str] | None:
    """The time that `parse_time` makes of it, and its text for COPY; None if it raises."""
    # Versions of Python differ in whether there is an hour 24.
    if type(text) is str and "T24" not in text:
        shape, canonical = text[4:20:3], ""
        if shape == "--T::.":
            if text[26:] in _ZEROS:
                canonical = f"{text[:26]}Z"
            elif text[23:] in _ZEROS:
                canonical = f"{text[:23]}000Z"
        elif text[19:] in _ZEROS and shape[:5] == "--T::":
            canonical = f"{text[:19]}Z"
        if canonical:
            try:
                time = datetime.fromisoformat(text)
            except ValueError:
                return None
            return time, canonical if time.microsecond else f"{text[:19]}Z"
    try:
        time = parse_time(text)
    except PydanticCustomError:
        return None
    return time, time_text(time)


_SCOPE: dict[str, Any] = {
    # A byte is found several times faster as a number than as bytes, let alone than a word.
    "BACKSLASH": ord("\\"),
    "CAPITAL_I": ord("I"),
    "EPOCH": EPOCH,
    "LATEST_MS": 2**47,  # in the year 6429
    "NULL": NULL,
    "Reading": Reading,
    "decode_json": Decoder().decode,
    "to_json": to_json,
    "moment": _moment,
    "text_of": time_text,
    "timedelta": timedelta,
    "new_tuple": tuple.__new__,
}
