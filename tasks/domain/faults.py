"""Faults that pydantic finds in the fields of a reading, in sentences for a device maker. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tasks.domain.columns import Column
from tasks.domain.payload import REASON_LENGTH, ErrorType, Refused
from tasks.domain.values import integral
from tasks.text.wording import describe, dotted

_ERROR_TYPES: dict[str, ErrorType] = {
    "missing": "MissingField",
    "finite_number": "NotFinite",
    "greater_than_equal": "OutOfRange",
    "less_than_equal": "OutOfRange",
    "invalid_time": "InvalidTime",
}


def refusal(error: ValidationError, members: Mapping[str, Column], labels: Mapping[str, str]) -> Refused:
    """All fields that are wrong in one reason; the first of them, as declared, gives the type.

    `members` are the columns by the names of their fields in the payload, and `labels` the names that a
    reason has in the place of these.
    """
    details = error.errors(include_url=False)
    reason = "; ".join(_sentence(detail, members, labels) for detail in details)
    if len(reason) > REASON_LENGTH:
        # The reason is cut at its end, so the names of all fields come first.
        reason = f"wrong fields: {', '.join(dotted(detail['loc']) for detail in details)}: {reason}"
    return Refused(_error_type(details[0]), reason)


def with_integers(values: dict[str, Any], error: ValidationError) -> dict[str, Any] | None:
    """The values, with integers where floats such as 5922.0 were refused; None if none was.

    In an array all of them, because validation stops at its first wrong element.
    """
    refused = {
        detail["loc"][0]
        for detail in error.errors(include_url=False, include_context=False)
        if detail["type"] == "int_type" and integral(detail["input"]) is not None
    }
    if not refused:
        return None
    return {name: _whole(one) if name in refused else one for name, one in values.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(one) for one in value]
    whole = integral(value)
    return value if whole is None else whole


def _error_type(detail: ErrorDetails) -> ErrorType:
    # Floats accept every integer except one that double precision cannot hold.
    if detail["type"] == "float_type" and type(detail["input"]) is int:
        return "OutOfRange"
    return _ERROR_TYPES.get(detail["type"], "InvalidField")


def _sentence(detail: ErrorDetails, members: Mapping[str, Column], labels: Mapping[str, str]) -> str:
    path = dotted(tuple(labels.get(str(part), part) for part in detail["loc"]))
    if detail["type"] == "invalid_time":
        return f"{path} {detail['msg']}"
    if own := str(detail.get("ctx", {}).get("error", "")):
        return f"{path}: {own}"  # the words of a domain's own validator
    expected = _expected(detail["loc"], members)
    if detail["type"] == "missing":
        return f"{path} is missing; it must be {expected}"
    sentence = f"{path} must be {expected}, got {describe(detail['input'])}"
    if detail["type"] == "int_type" and type(detail["input"]) is float and _is_small(detail["loc"], members):
        return f"{sentence}; a domain that declares it as `Double` takes fractions"
    return sentence


def _is_small(path: tuple[str | int, ...], members: Mapping[str, Column]) -> bool:
    """Whether the field is a measured integer rather than a counter or an id, which have 64 bits."""
    column = members.get(str(path[0])) if len(path) == 1 else None
    return column is not None and column.sql_type == "integer"


def _expected(path: tuple[str | int, ...], members: Mapping[str, Column]) -> str:
    column = members.get(str(path[0])) if path else None
    if column is None:
        return "as declared"
    for _ in path[1:]:
        column = column.element or column
    return column.expected
