"""What `sluice domain new --from` writes: a first declaration of messages, guessed from samples of them.

It is a beginning: each value of the samples has a column, and each time a form. Comments name what it cannot
know, the topic and the owner.
"""

import json
import keyword
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ingest.admin.errors import OperatorError
from tasks.domain.record import Record
from tasks.domain.values import NO_VALUE, is_absent, number

_MODULE = '''"""{title}: as the samples have it. Check the topic, the owner and the names of the columns."""

from tasks.domain import {imports}


class {model}(Record):
    """{sample}"""

    device: TopicLevel
    time: Time | None = None
{fields}
    reading_id: Fingerprint


DOMAIN = Domain(
    {model},
    name="{name}",
    # The topic that the devices publish on; {{device...}} is one or more levels.
    topic="{name}/{{device}}",
    # The user who gets the alerts, on users/OWNER/alerts; {{user}} for a level of the topic.
    owner="{name}",
    source="{{device}}",
    table="raw_{name}",
    primary_key=("time", "device", "reading_id"),
    form=Form({form}),
)
'''
_TEST = '''"""{title}: the samples become rows."""

import pytest

from tasks.domain.payload import Limits
from tasks.registry import load

(DOMAIN,) = load("{module}")
SAMPLES: list[bytes] = {samples}


@pytest.mark.parametrize("payload", SAMPLES)
def test_a_sample_becomes_rows(payload: bytes) -> None:
    """Each reading of it, and nothing is refused."""
    found = DOMAIN.read("{name}/one", payload, {arrival_ms}, Limits())
    assert found.readings
    assert found.refused is None
'''
_TIMES = re.compile(
    r"(?:.*[._])?(?:ts|tst|time|timestamp|datetime|date|last_seen|received_at|epoch)", re.IGNORECASE
)
_ISO = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d.*")
_OFFSET = re.compile(r".*(?:[Zz]|[+-]\d\d:?(?:\d\d)?)")
MOST_FIELDS = 40


class Guess(NamedTuple):
    """The text of a module and of its test, without the name of the module in the test."""

    module: str
    test: str


class _Column(NamedTuple):
    path: str
    kind: str


def guess(name: str, title: str, model: str, samples: list[bytes], arrival_ms: int) -> Guess:
    """The declaration of messages like these. Raises `OperatorError` for a sample that is not JSON."""
    documents = [_parsed(sample) for sample in samples]
    array = any(isinstance(one, list) for one in documents)
    readings = [reading for one in documents for reading in (one if isinstance(one, list) else [one])]
    if not readings or not all(isinstance(one, dict) for one in readings):
        raise OperatorError("A sample must be a JSON object, or an array of them.")
    values = _values(readings)
    times = {path: found for path, found in values.items() if _is_time(path, found)}
    columns = [
        _Column(path, kind) for path, found in values.items() if path not in times and (kind := _kind(found))
    ][:MOST_FIELDS]
    form = [f"times=({_times(times)})"] if times else []
    # A clock that was never set is common, and no reason to lose a reading.
    form += ['clock=Clock(outside="arrival")'] if times else []
    form += ['each="*"'] if array else []
    form += ['numbers="text"'] if any(_has_text_numbers(values[one.path]) for one in columns) else []
    used = {one.kind for one in columns} | ({"Clock", "When"} if times else set())
    fields = "\n".join(_fields(columns))
    used |= {"at"} if " = at(" in fields else set()
    module = _MODULE.format(
        name=name,
        title=title,
        model=model,
        imports=", ".join(sorted({"Domain", "Fingerprint", "Form", "Record", "Time", "TopicLevel", *used})),
        sample="Messages of one kind of device.",
        fields=fields,
        form=", ".join(form),
    )
    return Guess(
        module,
        _TEST.format(name=name, title=title, module="{module}", samples=samples, arrival_ms=arrival_ms),
    )


def split(content: bytes) -> list[bytes]:
    """The samples in a file: one JSON value, or one in each line."""
    try:
        json.loads(content)
    except ValueError:
        lines = [line for line in content.splitlines() if line.strip()]
        if len(lines) > 1:
            return lines
    return [content]


def _parsed(sample: bytes) -> Any:
    try:
        return json.loads(sample)
    except ValueError as error:
        raise OperatorError(f"A sample is not JSON: {error}.") from error


def _values(readings: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values at each path that ends in a single one."""
    found: dict[str, list[Any]] = {}

    def collect(document: dict[str, Any], prefix: str) -> None:
        for key, value in document.items():
            quote = not key or "." in key or key.startswith(('"', "/"))
            path = prefix + ('"' + key.replace('"', '""') + '"' if quote else key)
            if isinstance(value, dict):
                collect(value, f"{path}.")
            elif not isinstance(value, list):
                found.setdefault(path, []).append(value)

    for reading in readings:
        collect(reading, "")
    return found


def _present(values: list[Any]) -> list[Any]:
    return [value for value in values if not is_absent(value, NO_VALUE)]


def _is_time(path: str, values: list[Any]) -> bool:
    present = _present(values)
    if not present or not _TIMES.fullmatch(path):
        return False
    return all(_ISO.fullmatch(one) if isinstance(one, str) else _is_epoch(one) for one in present)


def _is_epoch(value: Any) -> bool:
    # From 2001 on in seconds, milliseconds, microseconds or nanoseconds.
    return isinstance(value, int | float) and not isinstance(value, bool) and 1e9 <= value < 1e19


def _times(times: dict[str, list[Any]]) -> str:
    made = []
    for path, values in times.items():
        present = _present(values)
        texts = [one for one in present if isinstance(one, str)]
        forms = (['"iso"'] if texts else []) + (['"epoch"'] if len(texts) < len(present) else [])
        zone = [] if all(_OFFSET.fullmatch(one[10:]) for one in texts) else ['zone="UTC"']
        made.append(f"When({', '.join([_quoted(path), *forms, *zone])})")
    return ", ".join(made) + ("," if len(made) == 1 else "")


def _kind(values: list[Any]) -> str:
    """The kind of column that takes all of them; empty if there is none."""
    present = _present(values)
    if not present:
        return ""
    if all(isinstance(one, bool) for one in present):
        return "Boolean"
    if all(_is_number(one) or (isinstance(one, str) and number(one)) for one in present):
        return "Double"
    return "Text" if all(isinstance(one, str) for one in present) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_text_numbers(values: list[Any]) -> bool:
    present = _present(values)
    return _kind(values) == "Double" and any(isinstance(one, str) for one in present)


def _fields(columns: list[_Column]) -> list[str]:
    taken = {"device", "time", "reading_id", "extra_data", "at", *dir(Record), *keyword.kwlist}
    lines = []
    for path, kind in columns:
        name = base = _name(path)
        for count in range(2, len(columns) + 3):
            if name not in taken:
                break
            name = f"{base}_{count}"
        taken.add(name)
        place = "None" if name == path else f"at({_quoted(path)})"
        lines.append(f"    {name}: {kind} | None = {place}")
    return lines


def _quoted(text: str) -> str:
    # JSON writes what is not printable in two parts where Python has one.
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)


def _name(path: str) -> str:
    """A name of a column for the value at a path: its last steps, as Python writes them."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", path).lower()
    name = re.sub(r"[^a-z0-9]+", "_", words).strip("_")[-48:].strip("_")
    return name if re.match(r"[a-z]", name) else f"value_{name}".rstrip("_")
