"""Entries of the outbox: how changes of alerts are packed, split by bytes, and cut to single items. Pure.

An entry belongs to one device: `changes` to deliver, and the rows of `active_alerts`, `written` and `gone`.
If they do not fit into one entry, several have them in order, the rows after all changes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgpack

from tasks.rules.change import REFUSED, Change

ENTRY_BYTES = 32_768
KINDS = ("changes", "written", "gone")

StreamId = tuple[int, int]
Item = tuple[str, Any]


class Entry(NamedTuple):
    """One entry, or a piece of it: its id in the stream, and its content."""

    id: str
    document: dict[str, Any]
    size: int = 0  # in the stream, in bytes

    @property
    def position(self) -> int:
        """Its place in the stream as one number: milliseconds * 2^20 + number within the millisecond."""
        return as_number(parse_id(self.id))

    @property
    def user(self) -> str:
        """The user whose alerts it is about; empty if it does not say."""
        return str(self.document.get("user_id", ""))

    def changes(self, *, refused: bool = False) -> list[dict[str, Any]]:
        """The changes to deliver, or the alerts that were refused. Raises `KeyError` or `TypeError`."""
        changes = self.document["changes"]
        return [one for one in changes if (one["record"].get("status") == REFUSED) is refused]

    def items(self) -> list[Item]:
        """The items to write, one by one, each with its kind. Raises `KeyError` or `TypeError`."""
        return [(kind, one) for kind in KINDS for one in self.document[kind]]

    def of(self, items: Iterable[Item]) -> "Entry":
        """A piece of this entry with these items, in their order."""
        parts: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for kind, one in items:
            parts[kind].append(one)
        return self._replace(document={**self.document, **parts})

    @property
    def device(self) -> str:
        """The device whose alerts it is about."""
        return str(self.document.get("device_id"))

    def to_json(self) -> bytes:
        """The entry's content, with its `id`."""
        return json.dumps({"id": self.id, **self.document}, ensure_ascii=False).encode()

    def digest(self) -> str:
        """Identifies the id and content of the entry."""
        said = [self.id, [list(item) for item in self.items()]]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]

    def pieces(self, most: int = ENTRY_BYTES) -> Iterator["Entry"]:
        """The entry in pieces of about `most` bytes: an entry of an older version may be of any size."""
        if self.size <= most:
            yield self
            return
        for items in _split(self.items(), most):
            size = sum(_size(item) for item in items)
            yield self.of(items)._replace(size=size)


def pack(
    user_id: str,
    device_id: str,
    changes: Iterable[Change],
    written: list[dict[str, Any]],
    gone: Iterable[str],
) -> bytes:
    """The user and the entries, as `commit.lua` appends them."""
    packed = [user_id, *entries(user_id, device_id, changes, written, gone)]
    # Redis' Lua does not know a binary type.
    return bytes(msgpack.packb(packed, use_bin_type=False))


def entries(
    user_id: str,
    device_id: str,
    changes: Iterable[Change],
    written: list[dict[str, Any]],
    gone: Iterable[str],
) -> list[bytes]:
    """The entries as stored in the stream; each of `ENTRY_BYTES` at most, unless one item is larger."""
    items: list[Item] = [
        ("changes", {"record": change.to_record(), "open": change.is_open}) for change in changes
    ]
    items += [("written", row) for row in written]
    items += [("gone", rule_id) for rule_id in gone]
    whole = Entry("", {"user_id": user_id, "device_id": device_id})
    return [_dump(whole.of(some).document) for some in _split(items, ENTRY_BYTES)]


def parse(entry_id: str, content: bytes) -> Entry:
    """The entry. Raises `ValueError` for content that is not an entry."""
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - a fault of the content, as broken JSON is
    return Entry(entry_id, document, len(content))


def parse_id(value: str) -> StreamId:
    """An id of the stream."""
    milliseconds, _, sequence = value.partition("-")
    return int(milliseconds), int(sequence)


def as_number(stream_id: StreamId) -> int:
    """An id of the stream as one number, in the same order."""
    return (stream_id[0] << 20) + stream_id[1]


def _split(items: list[Item], most: int) -> Iterator[list[Item]]:
    some: list[Item] = []
    size = 0
    for item in items:
        own = _size(item)
        if some and size + own > most:
            yield some
            some, size = [], 0
        some.append(item)
        size += own
    if some:
        yield some


def _size(item: Item) -> int:
    return len(_dump(item[1])) + 1


def _dump(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
