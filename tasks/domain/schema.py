"""Reads the schema that pydantic made of a domain's record, field by field, as far as it is known. Pure.

It is for `tasks.domain.fast`, which must not be used where validation does anything that is not known here.
"""

from sys import float_info
from typing import Any, NamedTuple

from tasks.domain.columns import parse_time
from tasks.domain.declaration import Declaration
from tasks.domain.record import Record

_OF_MODEL = frozenset(["cls", "config", "custom_init", "metadata", "ref", "root_model", "schema", "type"])
_OF_FIELDS = frozenset(["type", "fields", "model_name", "computed_fields"])
_OF_SCALAR = frozenset(["type", "strict", "metadata"])
_OF_INTEGER = _OF_SCALAR | {"ge", "le"}
_OF_DOUBLE = _OF_SCALAR | {"allow_inf_nan"}


class KnownField(NamedTuple):
    """A field, as far as its schema is known."""

    nullable: bool  # also: null if it is missing
    proven: str  # an expression: whether the validator returns the value `v` as it is; empty for the time
    kind: str


def known_fields(domain: Declaration[Any, Any]) -> dict[str, KnownField] | None:
    """All fields of the payload by name; None if anything about the domain is unknown."""
    if domain.form is not None or type(domain).validate is not Declaration.validate:
        return None
    inner = _inner_schema(domain.record)
    # A field with another name in the payload is not among the members by its own.
    if inner is None or inner["fields"].keys() != domain.members.keys():
        return None
    known: dict[str, KnownField] = {}
    for name, field in inner["fields"].items():
        found = _known_field(field)
        if found is None or (found.kind == "time") != (name == domain.time):
            return None
        known[name] = found
    return known


def _inner_schema(record: type[Record]) -> Any:
    """The schema of a record's fields; None if validation does anything besides."""
    schema: Any = record.__pydantic_core_schema__ if record.__pydantic_complete__ else {"type": ""}
    if schema["type"] != "model" or not schema.keys() <= _OF_MODEL or schema["cls"] is not record:
        return None
    if schema.get("custom_init") or schema.get("root_model") or record.model_config != Record.model_config:
        return None
    inner = schema["schema"]
    if inner["type"] != "model-fields" or not inner.keys() <= _OF_FIELDS or inner.get("computed_fields"):
        return None
    return inner


def _known_field(field: Any) -> KnownField | None:
    schema = field["schema"]
    nullable = False
    if not field.keys() <= {"type", "schema", "metadata"}:
        return None
    if schema["type"] == "default":
        inner = schema["schema"]
        if schema.keys() - {"metadata"} != {"type", "schema", "default"} or schema["default"] is not None:
            return None
        if inner["type"] != "nullable" or inner.keys() - {"metadata"} != {"type", "schema"}:
            return None
        schema, nullable = inner["schema"], True
    if schema["type"] == "function-plain":
        is_time = schema["function"] == {"type": "no-info", "function": parse_time}
        return KnownField(nullable, "", "time") if is_time else None
    proven = _proven(schema) if schema.get("strict") is True else ""
    return KnownField(nullable, proven, schema["type"]) if proven else None


def _proven(schema: Any) -> str:
    """The expression for a strict scalar; empty if anything about it is unknown."""
    match schema["type"]:
        case "int" if (
            schema.keys() <= _OF_INTEGER and type(schema.get("ge")) is type(schema.get("le")) is int
        ):
            return f"type(v) is int and {schema['ge']} <= v <= {schema['le']}"
        case "float" if schema.keys() <= _OF_DOUBLE and schema.get("allow_inf_nan") is False:
            return f"type(v) is float and {-float_info.max!r} <= v <= {float_info.max!r}"
        case "str" if schema.keys() <= _OF_SCALAR:
            return "type(v) is str"
        case "bool" if schema.keys() <= _OF_SCALAR:
            return "type(v) is bool"
    return ""
