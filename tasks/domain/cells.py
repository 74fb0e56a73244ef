"""A stored row, as an export writes it, back into a line of COPY text: validated as a reading would be. Pure.

A cell is what a file has: a number, a boolean, a time or a text of any of these, by the SQL type of its
column. `EXPORTED` says how the database writes the types of which its own text is not that of a reading.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, LiteralString

from pydantic_core import to_json

from tasks.domain.columns import NULL, escape, time_text
from tasks.domain.domain import AnyDomain, Source
from tasks.domain.outcome import MOST_TIMES_LARGER
from tasks.domain.payload import DEEPEST, Limits, Refused, parse_json, refuse_faults
from tasks.text.wording import describe, id_fault

# By the SQL type without its size; an array has the type of its elements with brackets.
EXPORTED: dict[str, LiteralString] = {
    "boolean": "{column}::text",
    "timestamp with time zone": """to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
    "point": "'POINT(' || ({column})[0] || ' ' || ({column})[1] || ')'",
    "geometry(Point,4326)": "'POINT(' || ST_X({column}) || ' ' || ST_Y({column}) || ')'",
    "[]": "to_jsonb({column})::text",
}
_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_DOUBLES = frozenset({"real", "double precision"})
_INTEGER = re.compile(r"[-+]?[0-9]{1,4000}")
_DOUBLE = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_POINT = re.compile(r"\(([^(),]+),([^(),]+)\)")
_BOOLEANS = {"true": True, "t": True, "false": False, "f": False}
_MOST = 2**63


class Cells:
    """Reads the rows of a domain's export."""

    def __init__(self, domain: AnyDomain, limits: Limits) -> None:
        self._domain = domain
        # Each row repeats what its message has once; and jsonb has spaces that a payload may lack. A value
        # of a row may have been deeper in its message, or less deep.
        depth = min(DEEPEST, limits.max_depth + 1)
        self._limits = replace(limits, max_bytes=MOST_TIMES_LARGER * limits.max_bytes, max_depth=depth)
        beside = {*domain.levels, *domain.fingerprints}
        self._fields = [
            (name, member, domain.sql_types[name])
            for member, name in domain.members.items()
            if name not in beside
        ]
        self._several = {name for template in domain.templates for name in template.several}

    def line(self, cells: Mapping[str, Any]) -> bytes:
        """The row as a line of COPY text; the cells are by the columns, None where there is no value.

        Raises `Refused` for values that no reading of the domain can have.
        """
        domain = self._domain
        values = {
            member: value_of(sql_type, cell, self._limits, name)
            for name, member, sql_type in self._fields
            if (cell := cells.get(name)) is not None
        }
        refuse_faults(values, self._limits)
        levels = [self._level(name, cells.get(name)) for name in domain.levels]
        fields = domain.checked(values, values, self._limits)
        own = fields.__dict__
        time = own[domain.time]
        if time is None:
            raise Refused("MissingField", f"`{domain.time}` is missing; it must be a time")
        for name in domain.fingerprints:
            own[name] = self._fingerprint(name, cells.get(name))
        domain.source_of(Source("", ""), fields)
        texts = [NULL if own[name] is None else encode(own[name]) for name, encode in domain.encoders]
        if domain.extra is not None:
            texts.append(escape(self._extra(domain.extra, cells.get(domain.extra))))
        return "\t".join((time_text(time), *map(escape, levels), *texts)).encode() + b"\n"

    def _level(self, name: str, cell: Any) -> str:
        if not isinstance(cell, str):
            raise Refused("MissingField", f"`{name}` is missing; it must be a string")
        if fault := id_fault(cell.replace("/", " ") if name in self._several else cell):
            raise Refused("InvalidField", f"`{name}` {fault}")
        return cell

    def _fingerprint(self, name: str, cell: Any) -> int:
        value = None if cell is None else value_of("bigint", cell, self._limits, name)
        if type(value) is not int or not -_MOST <= value < _MOST:
            raise Refused("InvalidField", f"`{name}` must be a 64-bit integer, got {describe(value)}")
        return value

    def _extra(self, name: str, cell: Any) -> str:
        value = {} if cell is None else value_of("jsonb", cell, self._limits, name)
        if type(value) is not dict:
            raise Refused("NotAnObject", f"`{name}` must be a JSON object, got {describe(value)}")
        return to_json(value).decode()


def exported(sql_type: str) -> LiteralString | None:
    """The SQL of a column in an export; None for its own value."""
    return EXPORTED["[]"] if sql_type.endswith("[]") else EXPORTED.get(sql_type)


def value_of(sql_type: str, cell: Any, limits: Limits, name: str) -> Any:
    """The value as JSON has it, for the validation of a reading: a text that is none is left to that.

    Raises `Refused` for text that must be JSON and is not.
    """
    if isinstance(cell, datetime):
        return time_text(cell)
    if not isinstance(cell, str):
        return float(cell) if type(cell) is int and sql_type in _DOUBLES else cell
    if sql_type == "jsonb" or sql_type.endswith("[]"):
        return _json(sql_type, cell, limits, name)
    if sql_type in _INTEGERS and _INTEGER.fullmatch(cell):
        return int(cell)
    if sql_type in _DOUBLES and _DOUBLE.fullmatch(cell):
        return float(cell)
    return _BOOLEANS.get(cell, cell) if sql_type == "boolean" else cell


def _json(sql_type: str, cell: str, limits: Limits, name: str) -> Any:
    try:
        value = _digits(cell) if sql_type == "numeric[]" else parse_json(_encoded(cell, name), limits)
    except Refused as refused:
        raise Refused(refused.error_type, f"`{name}`: {refused.reason}") from None
    return _elements(sql_type.removesuffix("[]"), value) if sql_type.endswith("[]") else value


def _digits(cell: str) -> Any:
    """An array of numbers with every digit, as strings."""
    try:
        return json.loads(cell, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        raise Refused("InvalidJson", "it must be a JSON array of numbers") from None


def _encoded(cell: str, name: str) -> bytes:
    try:
        return cell.encode()
    except UnicodeEncodeError:
        raise Refused("LoneSurrogate", f"`{name}` is not UTF-8") from None


def _elements(sql_type: str, value: Any) -> Any:
    """The elements of an array as a reading has them: the database writes points in its own way."""
    if isinstance(value, list):
        return [_elements(sql_type, one) for one in value]
    if sql_type == "point" and isinstance(value, str) and (found := _POINT.fullmatch(value)):
        return f"POINT({found[1]} {found[2]})"
    if sql_type in _DOUBLES and type(value) is int:
        return float(value)
    return value


@lru_cache
def arrow_type(sql_type: str) -> str:
    """The type of a column in Parquet, by its name in Arrow; text where Arrow has none that is as exact."""
    return {
        "timestamp with time zone": "timestamp",
        "smallint": "int16",
        "integer": "int32",
        "bigint": "int64",
        "real": "float32",
        "double precision": "float64",
        "boolean": "bool",
    }.get(sql_type, "string")
