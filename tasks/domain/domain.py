"""A domain: one kind of messages, from its MQTT topic to its table, declared in one module.

A module of a domain has a `Domain` named `DOMAIN`, and is listed in the setting `DOMAINS`. All stages work by
it: `docs/domains.md` explains how to write one.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple

from tasks.domain import places
from tasks.domain.declaration import Declaration, Reading
from tasks.domain.form import Form
from tasks.domain.payload import Refused
from tasks.domain.record import RecordT
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
    alerts are about: `{name}` for a level of the topic. An owner may also be a fixed name, and with a `form`
    (see `tasks.domain.form`) a field of the kind `Owner`; then a source may be a field of the payload.
    `account` is the device's account that publishes, by default the source's own: a level of the topic, or a
    fixed name. `checks` are by their `rule_id`; each takes the whole record, must depend on it alone, and
    returns an `Alert` while something is wrong, and None when it is in order. `namespace` (by default the
    name) distinguishes the Kafka topics and sources of the domain from other domains'. Raises `TypeError` for
    an invalid declaration.
    """

    def __init__(
        self,
        record: type[RecordT],
        *,
        name: str,
        topic: str | tuple[str, ...],
        owner: str,
        source: str,
        table: str,
        primary_key: tuple[str, ...],
        time: str = "time",
        extra: str | None = "extra_data",
        checks: Mapping[str, Callable[[RecordT], Alert | None]] | None = None,
        namespace: str | None = None,
        form: Form | None = None,
        account: str = "",
    ) -> None:
        self._fields = record.model_fields.keys()
        super().__init__(
            record,
            self._source_of,
            topic=topic,
            table=table,
            primary_key=primary_key,
            time=time,
            extra=extra,
            form=form,
        )
        self.name = name
        self.namespace = name if namespace is None else namespace
        self.owner = self._level(owner)
        self.user_id = None if self.owner else owner
        self.source = self._level(source, fields=form is not None)
        self.account = account or source
        self._account = self._level(account or source, fields=form is not None)
        self.filters = tuple(dict.fromkeys(one for template in self.templates for one in template.filters))
        self.prefix = f"{self.namespace}/" if self.namespace else ""
        self._checks = dict(checks or {})
        self.checks: tuple[Compiled, ...] = tuple(check(rule_id) for rule_id in self._checks)
        for text, pattern, what in (
            (name, _NAME, "name"),
            (table, _TABLE, "table"),
            (self.namespace or name, _NAME, "namespace"),
        ):
            if not pattern.fullmatch(text):
                raise TypeError(f"{text!r} is not a {what} of a domain: use lower-case letters, digits and _")
        if not self.source:
            raise TypeError(f"the source of {name} must be a level of {self.topic}, as in {{device_id}}")
        if form is not None and form.presence and self.source not in self.levels:
            raise TypeError(f"the presence of {name} needs a source that the topic names")
        if form is not None and not self.namespace:
            raise TypeError(f"{name} has a form, so it must have a namespace")
        if self.access_owner and self.owner != self.access_owner:
            raise TypeError(
                f"the owner of {name} must be {{{self.access_owner}}}, its field of the kind Owner"
            )
        if self.user_id is not None and id_fault(self.user_id):
            raise TypeError(f"the owner of {name} {id_fault(self.user_id)}")
        for rule_id in self._checks:
            if not 1 <= len(rule_id) <= 128 or not rule_id.isprintable() or rule_id.isspace():
                raise TypeError(f"{rule_id!r} is not a name of a check: use 1 to 128 printable characters")
        if time not in primary_key:
            raise TypeError(f"the primary key of {table} must hold {time}, as a hypertable's must")

    @property
    def filter(self) -> str:
        """The MQTT filter of the first of its topics."""
        return self.filters[0]

    def conflicts(self, other: "AnyDomain") -> bool:
        """Whether a topic could belong to both, and nothing decides which.

        With a form, the domain whose template is text where the other's is not comes first.
        """
        ranked = self.form is not None or other.form is not None
        return any(
            one.overlaps(another) and not (ranked and one.rank != another.rank)
            for one in self.templates
            for another in other.templates
        )

    def qualified(self, base: str) -> str:
        """`base`, the name of a Kafka topic or a key, with the domain's namespace if it has one."""
        return f"{base}-{self.namespace}" if self.namespace else base

    def owns(self, device_id: str) -> bool:
        """Whether an alert's `device_id` is a source of this domain."""
        return device_id.startswith(self.prefix) if self.prefix else "/" not in device_id

    def source_id(self, device_id: str) -> str:
        """The source's own id, as in the table, from a `device_id` of this domain."""
        return device_id.removeprefix(self.prefix)

    def topics_of(self, user_id: str, device_id: str) -> list[str]:
        """The topics that the account of a device may publish on, other levels as `+` or `#`.

        Empty if the domain has another fixed owner, or another fixed account.
        """
        if self.user_id not in {None, user_id}:
            return []
        if not self._account and self.account != device_id:
            return []
        known = {self.owner: user_id, self._account: device_id}
        known.pop("", None)
        return list(dict.fromkeys(topic for template in self.templates for topic in template.fill(known)))

    def account_of(self, topic: str, source: Source) -> str:
        """The device of the account that publishes on the topic: the source's, unless declared otherwise."""
        if not self._account:
            return self.account
        named = self.locate(topic, self.owner_of(source)).names
        return named.get(self._account) or self.source_id(source.device_id)

    def topic_of(self, user_id: str, device_id: str) -> str | None:
        """The first of these topics, if there is one."""
        return next(iter(self.topics_of(user_id, device_id)), None)

    def offset_of(self, place: int) -> int:
        """The offset of the record that a place is in."""
        return places.offset_of(place, formed=self.form is not None)

    def index_of(self, place: int) -> int:
        """The index in its message of the reading at a place."""
        return places.index_of(place, formed=self.form is not None)

    def owner_of(self, source: Source) -> str:
        """The source's user where no topic names it, but the access lists; else empty."""
        return source.user_id if self.access_owner else ""

    def source_of(self, source: Source, fields: RecordT) -> Source:
        """The source of a reading: that of the topic, unless it is a field of the payload."""
        if self.source in self.levels:
            return source
        device = str(getattr(fields, self.source))
        if fault := id_fault(re.sub("[+#/]", " ", device)):
            raise Refused("InvalidField", f"`{self.source}` {fault}")
        return Source(source.user_id, self.prefix + device)

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

    def _level(self, text: str, *, fields: bool = False) -> str:
        """The name of the level, or field, in `text`; empty for a fixed name. Raises `TypeError`."""
        found = _BRACED.fullmatch(text)
        if found is None:
            return ""
        if found[1] not in self.levels and not (fields and found[1] in self._fields):
            raise TypeError(f"{text} is not a level of {self.topic}")
        return found[1]

    def _source_of(self, **levels: str) -> Source:
        owner = self.user_id if self.user_id is not None else levels[self.owner]
        # A source that only the payload names has one key in Kafka with all others of its topic.
        own = levels[self.source] if self.source in levels else "/".join(levels.values()) or self.name
        return Source(owner, self.prefix + own)


AnyDomain = Domain[Any]

__all__ = ["Alert", "AnyDomain", "Domain", "Source"]
