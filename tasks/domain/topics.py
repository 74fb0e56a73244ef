"""The topics of a domain: the source and the columns that each names, and which of them hold no readings."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from tasks.domain.columns import escape
from tasks.domain.payload import Refused
from tasks.domain.presence import Presence
from tasks.domain.template import Template
from tasks.text.wording import describe, id_fault

# Sources whose parsed topic is cached: well above a fleet of 10,000, and a few MB when full.
KNOWN_SOURCES = 16_384

SourceT = TypeVar("SourceT")


class Located(NamedTuple, Generic[SourceT]):
    """A parsed topic: the source, the levels by the names of their columns, and these as COPY text.

    `names` are all that the topic names, and `rest` those without a column.
    """

    source: SourceT
    levels: dict[str, str]
    text: str
    names: Mapping[str, str] = {}
    rest: Mapping[str, str] = {}


class Topics(Generic[SourceT]):
    """The topics of some templates, whose columns are `levels`; the `ignored` ones hold no readings.

    `owner` is that of the levels which no template names: `locate` takes it beside the topic. `presence` has
    those of the templates whose messages say whether a device is there.
    """

    def __init__(
        self,
        templates: tuple[Template, ...],
        levels: tuple[str, ...],
        source: Callable[..., SourceT],
        ignored: tuple[Template, ...] = (),
        *,
        strict: bool,
        owner: str = "",
        presence: Mapping[Template, Presence] | None = None,
    ) -> None:
        self.text = " or ".join(template.text for template in templates)
        # In the order that decides about a topic.
        self.ranked = sorted((*templates, *ignored), key=lambda template: template.rank)
        self._templates, self._ignored = templates, ignored
        self._levels, self._source, self._owner = levels, source, owner
        self._plain = templates[0].text.split("/")
        plain = strict and templates[0].is_plain
        # Of another template it matches nothing.
        self._usual = re.compile("/".join(map(_usual_level, self._plain)) if plain else "(?!)")
        self.locate = lru_cache(KNOWN_SOURCES)(self._by_levels if plain else self._by_templates)
        self._presence = presence or {}
        self._presence_of = lru_cache(KNOWN_SOURCES)(self._find_presence)
        self._is_ignored = lru_cache(KNOWN_SOURCES)(lambda topic: self._best_match(topic)[0] in ignored)

    def ignores(self, topic: str) -> bool:
        """Whether messages on this topic are declared to hold no readings."""
        return bool(self._ignored) and self._is_ignored(topic)

    def presence(self, topic: str) -> Presence | None:
        """How messages on this topic say whether a device is there; None if they do not."""
        return self._presence_of(topic) if self._presence else None

    def _find_presence(self, topic: str) -> Presence | None:
        template, _ = self._best_match(topic)
        return None if template is None else self._presence.get(template)

    def _by_templates(self, topic: str, owner: str = "") -> Located[SourceT]:
        _refuse_bytes(topic)
        template, found = self._best_match(topic)
        if template is None or template in self._ignored:
            raise self._refusal(topic)
        for name, level in found.items():
            if fault := id_fault(level.replace("/", " ") if name in template.several else level):
                raise Refused("InvalidTopic", f"the {name} in the topic {fault}")
        if self._owner:
            found = {self._owner: _checked_owner(owner), **found}
        levels = {name: found[name] for name in self._levels}
        rest = {name: found[name] for name in found if name not in levels and name[0] != "_"}
        return Located(self._source(**levels), levels, "\t".join(map(escape, levels.values())), found, rest)

    def _by_levels(self, topic: str, owner: str = "") -> Located[SourceT]:  # noqa: ARG002 - as the other takes
        """The same for one template of plain levels, with a sentence for each fault."""
        if usual := self._usual.fullmatch(topic):
            found = usual.groupdict()
            return Located(self._source(**found), found, "\t".join(usual.groups()), found)
        _refuse_bytes(topic)
        levels = topic.split("/")
        found = {}
        if len(levels) != len(self._plain):
            raise self._refusal(topic)
        for expected, level in zip(self._plain, levels, strict=True):
            if expected.startswith("{"):
                if fault := id_fault(level):
                    raise Refused("InvalidTopic", f"the {expected[1:-1]} in the topic {fault}")
                found[expected[1:-1]] = level
            elif level != expected:
                raise self._refusal(topic)
        return Located(self._source(**found), found, "\t".join(map(escape, found.values())), found)

    def _best_match(self, topic: str) -> tuple[Template | None, dict[str, str]]:
        for template in self.ranked:
            found = template.match(topic)
            if found is not None:
                return template, found
        return None, {}

    def _refusal(self, topic: str) -> Refused:
        return Refused("InvalidTopic", f"the topic must be {self.text}, got {describe(topic)}")


def _usual_level(level: str) -> str:
    """A pattern of the text, or of ids that are valid and the same as COPY text, as most are."""
    return f"(?P<{level[1:-1]}>[A-Za-z0-9_.:-]{{1,128}})" if level.startswith("{") else re.escape(level)


def _checked_owner(owner: str) -> str:
    if not owner:
        reason = "the record does not name the owner of its topic, which the gateway adds"
        raise Refused("UnknownOwner", reason)
    if fault := id_fault(owner):
        raise Refused("UnknownOwner", f"the owner of the topic {fault}")
    return owner


def _refuse_bytes(topic: str) -> None:
    try:
        topic.encode()
    except UnicodeEncodeError as error:
        byte = ord(topic[error.start]) & 0xFF
        raise Refused("InvalidTopic", f"the topic must be UTF-8, but its byte 0x{byte:02x} is not") from None
