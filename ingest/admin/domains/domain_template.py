"""What `sluice domain new` writes: a module to fill in, and a test that passes already."""

import re
from pathlib import Path

from ingest.admin.domains import domain_sample
from ingest.admin.errors import OperatorError
from tasks import registry

_MODULE = '''"""{title}: describe here what one message is, and who sends it."""

from tasks.domain import Alert, Bigint, Domain, Double, Record, Time, TopicLevel


class {model}(Record):
    """What a message says. Each field is a column of its name.

    The kinds of columns are in `tasks.domain`: Bigint, Integer, Double, Numeric, Text, Boolean, Time, Uuid,
    Json, Point; a StrEnum, a Literal, `list[Text]`; and `Annotated[str, sql("inet", "an IP address")]` for
    any other type of the database. `… | None = None` makes a field optional.
    """

    # From the topic: levels that it writes in braces.
    user_id: TopicLevel
    {source}: TopicLevel
    # Without a time in the message, that of its arrival in Kafka counts.
    time: Time | None = None
    # From the payload, a JSON object.
    sequence_id: Bigint
    value: Double | None = None


def too_high(record: {model}) -> Alert | None:
    """A check: an alert while it returns one, over when it returns None. It may look at the record alone."""
    if record.value is not None and record.value > 100:
        return Alert(f"{{record.{source}}} is at {{record.value}}", value=record.value)
    return None


DOMAIN = Domain(
    {model},
    name="{name}",
    topic="users/{{user_id}}/{name}/{{{source}}}",
    # The user who gets the alerts, on users/OWNER/alerts. Without users, a fixed name.
    owner="{{user_id}}",
    # The source: its messages stay in order, and alerts are about it.
    source="{{{source}}}",
    table="raw_{name}",
    # A repeated message has the same key as the first. The time must be part of it.
    primary_key=("time", "user_id", "{source}", "sequence_id"),
    # Optional. The names are the rule_id that users see, and that SNOOZE and DISABLE take.
    checks={{"TooHigh": too_high}},
    # Members of the payload that are not fields go to the column `extra_data`; `extra=None` leaves them out.
)
'''

_TEST = '''"""{title}: a message becomes its row, or is refused for a reason that its sender can act on."""

import pytest

from tasks.domain.payload import Limits, Refused
from tasks.registry import load

(DOMAIN,) = load("{module}")
TOPIC = "users/ann/{name}/one"


def test_a_message_becomes_its_row() -> None:
    """The columns in their order, and what is not a field in the last one."""
    payload = b'{{"time": "2026-05-01T10:00:00Z", "sequence_id": 7, "value": 1.5, "more": true}}'
    reading = DOMAIN.validate(TOPIC, payload, 0, Limits())
    assert reading.copy_line == b'2026-05-01T10:00:00Z\\tann\\tone\\t7\\t1.5\\t{{"more":true}}\\n'


def test_a_wrong_message_is_refused_with_the_reason() -> None:
    """The reason names the field, and what it must be."""
    with pytest.raises(Refused, match="`sequence_id` must be a 64-bit integer"):
        DOMAIN.validate(TOPIC, b'{{"sequence_id": "7"}}', 0, Limits())


@pytest.mark.parametrize(("value", "alert"), [(100, False), (101, True)])
def test_the_check(value: float, alert: bool) -> None:
    """Above 100 there is an alert."""
    reading = DOMAIN.validate(TOPIC, b'{{"sequence_id": 7, "value": %d}}' % value, 0, Limits())
    assert (DOMAIN.check_results(TOPIC, reading, print)["TooHigh"] is not None) is alert
'''


def write(name: str, folder: Path, samples: list[bytes] | None = None, arrival_ms: int = 0) -> list[Path]:
    """Writes the module and its test into the folder, and returns their paths.

    With `samples` of messages the module is a first declaration of those, which arrived then.

    Raises `OperatorError` for an invalid name, a folder that cannot be imported from, and files that already
    exist.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name):
        raise OperatorError(
            f"{name} is not a name of a domain: use lower-case letters, digits and _, as in parcels."
        )
    if any(domain.name == name for domain in registry.domains()):
        raise OperatorError(f"{name} is already the name of a domain in DOMAINS; choose another.")
    parts = [part for part in folder.parts if part != "."]
    if folder.is_absolute() or not all(part.isidentifier() for part in parts):
        raise OperatorError(
            f"{folder} is not a folder to import from; give one below the working directory, such as domains."
        )
    paths = [folder / f"{name}.py", folder / f"test_{name}.py"]
    for path in paths:
        if path.exists():
            raise OperatorError(f"{path} already exists.")
    singular = name.removesuffix("s")
    values = {
        "name": name,
        "title": name.replace("_", " ").capitalize(),
        "model": "".join(word.capitalize() for word in singular.split("_")),
        "source": f"{singular}_id" if singular != "user" else "source_id",
        "module": ".".join([*parts, name]),
    }
    texts = [template.format(**values) for template in (_MODULE, _TEST)]
    if samples is not None:
        made = domain_sample.guess(name, values["title"], values["model"], samples, arrival_ms)
        texts = [made.module, made.test.replace("{module}", values["module"])]
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def module_of(path: Path) -> str:
    """The module of a file, as DOMAINS names it."""
    return ".".join(path.with_suffix("").parts)
