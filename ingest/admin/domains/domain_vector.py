"""What `vector.toml` says of the domains, for Vector in place of the gateway: made, and compared with a file.

The file has marked places for what depends on the domains; the rest is its owner's. Vector cannot serve a
domain whose owner is in the access lists, which it does not read.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ingest.admin.errors import OperatorError
from tasks.domain.domain import AnyDomain
from tasks.domain.payload import REASON_LENGTH
from tasks.domain.template import Template, filter_covers
from tasks.settings import Settings
from tasks.text.wording import shorten

IGNORED = "the topic is declared to hold no readings"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BEGIN, END = "# Generated: {}.", "# Generated up to here."
_PLACE = re.compile(
    r"^(?P<indent> *)# Generated: (?P<name>[a-z ]+)\.\n(?P<text>.*?)^ *# Generated up to here\.$",
    re.MULTILINE | re.DOTALL,
)


def served(domains: Iterable[AnyDomain]) -> list[AnyDomain]:
    """The domains that Vector can serve."""
    return [domain for domain in domains if not domain.access_owner]


def generated(domains: Sequence[AnyDomain], chosen: Settings) -> dict[str, str]:
    """The text of each marked place, for domains that Vector can serve."""
    filters = list(dict.fromkeys(one for domain in domains for one in domain.filters))
    several = len(domains) > 1
    topics = (
        _text("{{ kafka_topic }}") if several else _text(domains[0].qualified(base))
        for base in _bases(chosen)
    )
    readings, letters = topics
    return {
        "subscriptions": f"topic = {_list(filters) if len(filters) > 1 else _text(filters[0])}\n",
        "topics": _places(domains, chosen),
        "topic of the dead letter": _letters(domains, chosen),
        "topic of readings": f"topic = {readings}\n",
        "topic of dead letters": f"topic = {letters}\n",
        "tests": "\n".join(_test(domain, chosen) for domain in domains),
    }


def written(text: str, domains: Sequence[AnyDomain], chosen: Settings) -> str:
    """A configuration with its marked places made for these domains. Raises `OperatorError`."""
    wanted = generated(domains, chosen)
    found = {place["name"] for place in _PLACE.finditer(text)}
    if missing := wanted.keys() - found:
        raise OperatorError(
            f"the configuration has no place for {', '.join(sorted(missing))}: start from the vector.toml"
            f" of Sluice, where `{BEGIN.format('subscriptions')}` begins one"
        )
    return _PLACE.sub(lambda place: _placed(place["indent"], place["name"], place["text"], wanted), text)


def unserved(domains: Sequence[AnyDomain], text: str, chosen: Settings) -> list[str]:
    """A sentence for each domain that Vector with this configuration does not serve.

    Raises `OperatorError` for what is not a configuration of Vector.
    """
    subscribed = _subscriptions(text)
    able = served(domains)
    places = {place["name"]: place["text"] for place in _PLACE.finditer(text)}
    wanted = generated(able, chosen) if able else {}
    stale = [name for name in wanted if places and places.get(name) != wanted[name]]
    found = []
    for domain in domains:
        missing = [one for one in domain.filters if not any(filter_covers(own, one) for own in subscribed)]
        if domain.access_owner:
            why = "Vector does not read the access lists, which have its owner; the gateway does"
        elif missing:
            why = f"Vector does not subscribe to {', '.join(missing)}; `--write` makes the file for it"
        elif stale:
            why = f"the file was made for other domains ({', '.join(stale)}); `--write` makes it for these"
        elif domain.form is not None and not places:
            why = "the file has no marked places, so that it reads its topics is unknown"
        else:
            continue
        found.append(f"{domain.name}: {why}")
    return found


def read(file: Path) -> str:
    """A configuration of Vector. Raises `OperatorError`."""
    try:
        text = file.read_text()
    except (OSError, ValueError) as error:
        raise OperatorError(f"{file} cannot be read: {error}.") from error
    try:
        _subscriptions(text)
    except OperatorError as error:
        raise OperatorError(f"{file} {error}") from error
    return text


def write(file: Path, text: str) -> None:
    """Writes a configuration. Raises `OperatorError`."""
    try:
        file.write_text(text)
    except OSError as error:
        raise OperatorError(f"{file} cannot be written: {error}.") from error


def _subscriptions(text: str) -> list[str]:
    try:
        sources = tomllib.loads(text).get("sources", {})
        topics = [one["topic"] for one in sources.values() if one.get("type") == "mqtt"]
    except (ValueError, KeyError, AttributeError) as error:
        raise OperatorError(f"cannot be read as a configuration of Vector: {error}.") from error
    return [one for topic in topics for one in ([topic] if isinstance(topic, str) else topic)]


def _placed(indent: str, name: str, text: str, wanted: Mapping[str, str]) -> str:
    return f"{indent}{BEGIN.format(name)}\n{wanted.get(name, text)}{indent}{END}"


def _bases(chosen: Settings) -> tuple[str, str]:
    return chosen.kafka_topic, chosen.kafka_dlq_topic


def _ranked(domains: Sequence[AnyDomain]) -> list[tuple[Template, AnyDomain]]:
    """The templates in the order in which the gateway tries them."""
    every = [(template, domain) for domain in domains for template in domain.ranked]
    return sorted(every, key=lambda pair: pair[0].rank)


def _places(domains: Sequence[AnyDomain], chosen: Settings) -> str:
    """The program that finds Kafka topic, user and device of an MQTT topic, and the ids in it."""
    lines = ['kafka_topic = ""', 'user_id = ""', 'device_id = ""', "ids = []"]
    for template, domain in _ranked(domains):
        lines += ['if kafka_topic == "" {', f"    found, fault = parse_regex(topic, {_whole(template)})"]
        lines += ["    if fault == null {", *(" " * 8 + line for line in _found(template, domain, chosen))]
        lines += ["    }", "}"]
    forms = " or ".join(domain.topic for domain in domains)
    reason = shorten(f"the topic must be {forms}", REASON_LENGTH)
    lines += ['if kafka_topic == "" {', f"    abort {_text(reason)}", "}"]
    return _joined(lines)


def _found(template: Template, domain: AnyDomain, chosen: Settings) -> list[str]:
    if template not in domain.templates:
        return [f"abort {_text(IGNORED)}"]
    user = _text(domain.user_id) if domain.user_id is not None else _level(domain.owner)
    own = [domain.source] if domain.source in domain.levels else domain.levels
    device = ' + "/" + '.join(map(_level, own)) or _text(domain.name)
    prefix = f"{_text(domain.prefix)} + " if domain.prefix else ""
    ids = [f"[{_text(name)}, {_id(name, template)}]" for name in template.names]
    return [
        f"kafka_topic = {_text(domain.qualified(chosen.kafka_topic))}",
        f"user_id = {user}",
        f"device_id = {prefix}{device}",
        f"ids = [{', '.join(ids)}]",
    ]


def _letters(domains: Sequence[AnyDomain], chosen: Settings) -> str:
    """The program that finds the Kafka topic of a refused message: that of its domain, or the first's."""
    ignored = any(template not in domain.templates for template, domain in _ranked(domains))
    lines = [f"if error == {_text(IGNORED)} {{", "    abort", "}"] if ignored else []
    lines.append(f"kafka_topic = {_text(domains[0].qualified(chosen.kafka_dlq_topic))}")
    if len(domains) > 1:
        branches = [
            f"if match(topic, {_whole(template)}) {{\n"
            f"    kafka_topic = {_text(domain.qualified(chosen.kafka_dlq_topic))}\n}}"
            for template, domain in _ranked(domains)
        ]
        lines.append(" else ".join(branches))
    return _joined(lines)


def _test(domain: AnyDomain, chosen: Settings) -> str:
    """Tests for `vector test`: a payload that is no JSON is untouched, and a trace in one goes on."""
    topic = domain.templates[0].example
    source = domain.parse_topic(topic)
    key = f"{source.user_id}/{source.device_id}"
    cases = (
        (
            "a malformed payload",
            '{"temperature": 21.',
            r"match(string!(.kafka_headers.traceparent), r'^00-')",
        ),
        (
            "a trace",
            f'{{"traceparent": "{TRACEPARENT}"}}',
            f".kafka_headers.traceparent == {_text(TRACEPARENT)}",
        ),
    )
    return "\n".join(
        f"""[[tests]]
name = {_text(f"{domain.name}: {what} passes untouched, under its device's key")}

[[tests.inputs]]
insert_at = "record"
type = "log"

[tests.inputs.log_fields]
message = {_text(payload)}
mqtt_topic = {_text(topic)}

[[tests.outputs]]
extract_from = "record"

[[tests.outputs.conditions]]
type = "vrl"
source = '''
assert_eq!(.message, {_text(payload)}, "the payload changed")
assert_eq!(.kafka_topic, {_text(domain.qualified(chosen.kafka_topic))})
assert_eq!(.kafka_key, {_text(key)})
assert_eq!(.kafka_headers.mqtt_topic, {_text(topic)})
assert!({trace})
'''
"""
        for what, payload, trace in cases
    )


def _level(name: str) -> str:
    return f"to_string(found.{name})"


def _id(name: str, template: Template) -> str:
    # A name of several levels may hold slashes, which no id does.
    return f'replace({_level(name)}, "/", " ")' if name in template.several else _level(name)


def _whole(template: Template) -> str:
    return f"r'^{template.pattern}$'"


def _text(text: str) -> str:
    """A string of TOML and of Vector's language, both of which read this as one. Raises `OperatorError`."""
    if not text.isprintable() or "'''" in text:
        raise OperatorError(f"{text!r} cannot stand in Vector's configuration; the gateway serves it.")
    return json.dumps(text, ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _joined(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
