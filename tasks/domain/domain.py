"""A domain: one kind of messages, from its MQTT topic to its table, declared in one module.

A module of a domain has a `Domain` named `DOMAIN`, and is listed in the setting `DOMAINS`. All stages work by
it: `docs/domains.md` explains how to write one.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple

from tasks.domain.declaration import Declaration, Reading, RecordT
from tasks.rules.rule import Alert, Compiled, check
from tasks.text.wording import id_fault

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_TABLE = re.compile(r"[a-z_][a-z0-9_]{0,55}")
_BRACED = re.compile(r"\{(\w+)\}")


class Source(NamedTuple):
    """The sender of messages: order is kept by source, and alerts name it and go to its user.

    Two domains never share a source: if a domain has a namespace, `device_id` begins with it and a
    slash, which no id can hold.
    """

    user_id: str
    device_id: str


class Domain(Declaration[Source, RecordT], Generic[RecordT]):
    """A declaration with its names, and checks of its own.

    `owner` is the user who gets the alerts (`users/{owner}/alerts`), and `source` what order is kept by and
    alerts are about: `{name}` for a level of the topic; an owner may also be a fixed name. `checks` are by
    their `rule_id`; each takes the whole record, must depend on it alone, and returns an `Alert` while
    something is wrong, and None when it is in order. `namespace` (by default the name) distinguishes the
    Kafka topics and sources of the domain from other domains'. Raises `TypeError` for an invalid declaration.
    """

    def __init__(
        self,
        record: type[RecordT],
        *,
        name: str,
        topic: str,
        owner: str,
        source: str,
        table: str,
        primary_key: tuple[str, ...],
        time: str = "time",
        extra: str | None = "extra_data",
        checks: Mapping[str, Callable[[RecordT], Alert | None]] | None = None,
        namespace: str | None = None,
    ) -> None:
        super().__init__(
            record,
            self._source_of,
            topic=topic,
            table=table,
            primary_key=primary_key,
            time=time,
            extra=extra,
        )
        self.name = name
        self.namespace = name if namespace is None else namespace
        self.owner = self._level(owner)
        self.user_id = None if self.owner else owner
        self.source = self._level(source)
        self.filter = "/".join("+" if level.startswith("{") else level for level in topic.split("/"))
        self.prefix = f"{self.namespace}/" if self.namespace else ""
        self._checks = dict(checks or {})
        self.checks: tuple[Compiled, ...] = tuple(check(rule_id) for rule_id in self._checks)
        for text, form, what in (
            (name, _NAME, "name"),
            (table, _TABLE, "table"),
            (self.namespace or name, _NAME, "namespace"),
        ):
            if not form.fullmatch(text):
                raise TypeError(f"{text!r} is not a {what} of a domain: use lower-case letters, digits and _")
        if not self.source:
            raise TypeError(f"the source of {name} must be a level of {topic}, as in {{device_id}}")
        if self.user_id is not None and id_fault(self.user_id):
            raise TypeError(f"the owner of {name} {id_fault(self.user_id)}")
        for rule_id in self._checks:
            if not 1 <= len(rule_id) <= 128 or not rule_id.isprintable() or rule_id.isspace():
                raise TypeError(f"{rule_id!r} is not a name of a check: use 1 to 128 printable characters")
        if time not in primary_key:
            raise TypeError(f"the primary key of {table} must hold {time}, as a hypertable's must")

    def qualified(self, base: str) -> str:
        """`base`, the name of a Kafka topic or a key, with the domain's namespace if it has one."""
        return f"{base}-{self.namespace}" if self.namespace else base

    def owns(self, device_id: str) -> bool:
        """Whether an alert's `device_id` is a source of this domain."""
        return device_id.startswith(self.prefix) if self.prefix else "/" not in device_id

    def source_id(self, device_id: str) -> str:
        """The source's own id, as in the table, from a `device_id` of this domain."""
        return device_id.removeprefix(self.prefix)

    def topic_of(self, user_id: str, source_id: str) -> str | None:
        """The topic of one source, other levels as `+`; None if the domain has another fixed owner."""
        if self.user_id not in {None, user_id}:
            return None
        known = {self.owner: user_id, self.source: source_id}
        return _BRACED.sub(lambda found: known.get(found[1], "+"), self.topic)

    def check_results(
        self, topic: str, reading: Reading[Source, RecordT], failed: Callable[[str, Exception], None]
    ) -> dict[str, Alert | None]:
        """The results of the checks for a record. A check that fails has none, and `failed` is called."""
        said: dict[str, Alert | None] = {}
        record = self.whole(topic, reading)
        for rule_id, judge in self._checks.items():
            try:
                said[rule_id] = judge(record)
            except Exception as error:  # noqa: BLE001 - a fault of a check must not hold up the readings
                failed(rule_id, error)
        return said

    def _level(self, text: str) -> str:
        """The name of the level in `text`; empty for a fixed name. Raises `TypeError`."""
        found = _BRACED.fullmatch(text)
        if found is None:
            return ""
        if found[1] not in self.levels:
            raise TypeError(f"{text} is not a level of {self.topic}")
        return found[1]

    def _source_of(self, **levels: str) -> Source:
        owner = self.user_id if self.user_id is not None else levels[self.owner]
        return Source(owner, self.prefix + levels[self.source])


AnyDomain = Domain[Any]

__all__ = ["Alert", "AnyDomain", "Domain", "Source"]
