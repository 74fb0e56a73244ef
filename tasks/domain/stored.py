"""Stored rows as the payloads that they came from. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tasks.domain.domain import AnyDomain
from tasks.domain.form import Form, place_of
from tasks.text.paths import steps


def payload_of(domain: AnyDomain, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a row as rules see it, given by its columns, without time, topic levels and nulls."""
    beside = {domain.time, domain.extra, *domain.levels, *domain.fingerprints}
    own = {name: _number(one) for name, one in fields.items() if one is not None and name not in beside}
    extra = (fields[domain.extra] or {}) if domain.extra else {}
    return own | extra if domain.form is None else _formed(domain, domain.form, own, fields, extra)


def keeps_all(domain: AnyDomain) -> bool:
    """Whether rows have all that the payloads had."""
    return domain.extra is not None and (domain.form is None or domain.form.extras is None)


def _formed(
    domain: AnyDomain, form: Form, own: dict[str, Any], fields: Mapping[str, Any], extra: dict[str, Any]
) -> dict[str, Any]:
    """The reading as it came, as far as the row has it, with the fields by their names as well."""
    of_topic = {name for template in domain.templates for name in template.names}
    payload = {name: one for name, one in extra.items() if name not in of_topic and name != "device_time"}
    for name, path in (form.extras or {}).items():
        if name in payload and path != name:
            _put(payload, path, payload.pop(name))
    for member, name in domain.members.items():
        if name not in own:
            # A value of another kind, kept beside the column, is hidden by the field.
            payload.pop(name, None)
            continue
        for path in place_of(member, domain.record.model_fields[name]).paths:
            _put(payload, path, own[name])
    payload |= own
    if "value" in payload and form.value.startswith("{"):
        name = form.value[1:-1]
        payload[str(fields.get(name) or extra.get(name) or form.value)] = payload["value"]
    return payload


def _put(payload: dict[str, Any], path: str, value: Any) -> None:
    """Sets the value at the path, where there is none. A path from the root is of no reading."""
    if path.startswith("/"):
        return
    *before, last = map(str, steps(path) or (path,))
    for step in before:
        inner = payload.setdefault(step, {})
        if not isinstance(inner, dict):
            return
        payload = inner
    payload.setdefault(last, value)


def _number(value: Any) -> Any:
    # A number of the payload comes back from a numeric column as a Decimal.
    return float(value) if isinstance(value, Decimal) else value
