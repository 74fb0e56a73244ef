"""Stored rows as the payloads that they came from. Pure."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from tasks.domain.columns import time_text
from tasks.domain.domain import AnyDomain
from tasks.domain.form import Form, Place, place_of
from tasks.text.paths import steps


def payload_of(domain: AnyDomain, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a row as rules see it, given by its columns, without time, topic levels and nulls."""
    beside = {domain.time, domain.extra, *domain.levels, *domain.fingerprints}
    own = {name: _sent(one) for name, one in fields.items() if one is not None and name not in beside}
    extra = (fields[domain.extra] or {}) if domain.extra else {}
    if domain.form is not None:
        return _formed(domain, domain.form, own, fields, extra)
    return {member: own[name] for member, name in domain.members.items() if name in own} | extra


def keeps_all(domain: AnyDomain) -> bool:
    """Whether rows have all that the payloads had."""
    return domain.extra is not None and (domain.form is None or domain.form.extras is None)


def _formed(
    domain: AnyDomain, form: Form, own: dict[str, Any], fields: Mapping[str, Any], extra: dict[str, Any]
) -> dict[str, Any]:
    """The reading as it came, as far as the row has it, with the fields by their names as well."""
    of_topic = {name for template in domain.templates for name in template.names}
    if form.unpack is not None:
        # Its readings may have members of these names themselves, and a row does not say so.
        of_topic = set()
    payload = {name: one for name, one in extra.items() if name not in of_topic and name != "device_time"}
    for name, path in (form.extras or {}).items():
        if name in payload and path != name:
            _put(payload, path, payload.pop(name))
    for member, name in domain.members.items():
        if name not in own:
            # A value of another kind, kept beside the column, is hidden by the field.
            payload.pop(name, None)
            continue
        place = place_of(member, domain.record.model_fields[name])
        for path in place.paths:
            # A path from the root is one of the reading, where that is the whole message.
            if not path.startswith("/") or not (form.each or form.unpack):
                _put(payload, path.removeprefix("/"), _as_word(own[name], place))
    payload |= own
    if "value" in payload and form.value.startswith("{"):
        name = form.value[1:-1]
        payload[str(fields.get(name) or extra.get(name) or form.value)] = payload["value"]
    return payload


def _put(payload: dict[str, Any], path: str, value: Any) -> None:
    """Sets the value at the path, where there is none."""
    *before, last = map(str, steps(path) or (path,))
    for step in before:
        inner = payload.get(step, {})
        if not isinstance(inner, dict):
            return
        payload[step] = inner = inner.copy()
        payload = inner
    payload.setdefault(last, value)


def _as_word(value: Any, place: Place) -> Any:
    words = place.true if value is True else place.false if value is False else ()
    return min(words, default=value)


def _sent(value: Any) -> Any:
    # A number of the payload comes back from a numeric column as a Decimal; others are strings in JSON.
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return time_text(value)
    return str(value) if isinstance(value, UUID) else value
