"""Stored rows as the payloads that they came from. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tasks.domain.domain import AnyDomain


def payload_of(domain: AnyDomain, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a row, given by its columns, without time, topic levels and nulls."""
    beside = {domain.time, domain.extra, *domain.levels}
    own = {name: _number(one) for name, one in fields.items() if one is not None and name not in beside}
    return own | ((fields[domain.extra] or {}) if domain.extra else {})


def _number(value: Any) -> Any:
    # A number of the payload comes back from a numeric column as a Decimal.
    return float(value) if isinstance(value, Decimal) else value
