"""The text of a message, from a template with the fields of an alert: bounded, and no code runs. Pure."""

import re
import string
from collections.abc import Mapping
from typing import Any

# A template may name these; `sluice_channel_template` of the database knows the same.
FIELDS = (
    *("alert_id", "status", "severity", "user_id", "device_id", "rule_id", "message", "key", "operator"),
    *("threshold", "value", "values", "time", "first_seen", "last_seen", "count", "reason", "by", "note"),
)
MOST_TEMPLATE = 4096
# Longer fields and texts are cut.
MOST_FIELD, MOST_TEXT, MOST_TITLE = 1000, 16_000, 200

DEFAULT = """$message

Device: $device_id
Rule: $rule_id
Status: $status since $first_seen
Value: $value $values
Alert: $alert_id
"""

Notice = Mapping[str, Any]


class Template(string.Template):
    """`$name` or `${name}` for a field, `$$` for a dollar."""

    idpattern = "(?a:[a-z_]+)"
    flags = re.RegexFlag(0)  # not those of the base class: names are lower case


def problem(template: str) -> str:
    """The fault of a template, in a sentence; empty if there is none."""
    if not 1 <= len(template) <= MOST_TEMPLATE:
        return f"a template has 1 to {MOST_TEMPLATE} characters"
    parsed = Template(template)
    if not parsed.is_valid():
        return "a $ must be followed by a field's name, {name} or another $"
    unknown = [name for name in parsed.get_identifiers() if name not in FIELDS]
    if unknown:
        return f"there is no field ${unknown[0]}; the fields are {', '.join(FIELDS)}"
    return ""


def text(template: str | None, notice: Notice) -> str:
    """The text of a message. The default replaces a template that is not valid: an alert must be sent."""
    chosen = DEFAULT if template is None or problem(template) else template
    values = {name: _shown(notice.get(name)) for name in FIELDS}
    return Template(chosen).substitute(values)[:MOST_TEXT]


def title(notice: Notice) -> str:
    """One line: what happened where."""
    said = "[{severity}] {status} {device_id}: {message}".format(
        **{name: _shown(notice.get(name)) for name in ("severity", "status", "device_id", "message")}
    )
    return " ".join("".join(one if one.isprintable() else " " for one in said).split())[:MOST_TITLE]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())[:MOST_FIELD]
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:MOST_FIELD]
