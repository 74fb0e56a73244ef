"""The owner of a topic by the accounts' access lists, where the topic does not name it. Pure."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from tasks.domain.topics import KNOWN_SOURCES

# Usernames that a reason names.
MOST_NAMED = 3


class NoOwner(NamedTuple):
    """Why a topic has no one owner, and how many accounts hold it."""

    reason: str
    holders: int


class Right(NamedTuple):
    """An entry of an account's access list: the topics of an MQTT filter are allowed or denied."""

    username: str
    user_id: str
    permission: str
    filter: str


class AccessList:
    """The rights to publish of all accounts, as far as they concern topics of these MQTT filters.

    An account holds a topic if one of its rights allows it and none denies it.
    """

    def __init__(self, rights: Iterable[Right], filters: Sequence[str]) -> None:
        self.rights = frozenset(right for right in rights if any(_meet(right.filter, one) for one in filters))
        self._root = _Node()
        for right in self.rights:
            self._root.add(right)
        self.owner_of = lru_cache(KNOWN_SOURCES)(self._owner_of)

    def _owner_of(self, topic: str) -> str | NoOwner:
        """The user of the one account that holds the topic, or why there is none."""
        found = self._root.matching(topic)
        denied = {right.username for right in found if right.permission == "deny"}
        holders = {right.username: right.user_id for right in found if right.username not in denied}
        if len(holders) == 1:
            return next(iter(holders.values()))
        if not holders:
            return NoOwner("no account's access list holds the topic, so it has no owner", 0)
        named = ", ".join(sorted(holders)[:MOST_NAMED]) + (", …" if len(holders) > MOST_NAMED else "")
        reason = (
            f"the access lists of {len(holders)} accounts hold the topic ({named}), so it has no one owner"
        )
        return NoOwner(reason, len(holders))


class _Node:
    """The rights whose filters begin alike, by their next level."""

    __slots__ = ("below", "here", "next")

    def __init__(self) -> None:
        self.next: dict[str, _Node] = {}
        self.here: list[Right] = []
        self.below: list[Right] = []  # `#`, which matches this level as well

    def add(self, right: Right) -> None:
        node = self
        for level in right.filter.split("/"):
            if level == "#":
                node.below.append(right)
                return
            node = node.next.setdefault(level, _Node())
        node.here.append(right)

    def matching(self, topic: str) -> list[Right]:
        nodes, found = [self], list[Right]()
        for level in topic.split("/"):
            found += [right for node in nodes for right in node.below]
            nodes = [node.next[one] for node in nodes for one in (level, "+") if one in node.next]
        return found + [right for node in nodes for right in (*node.here, *node.below)]


def _meet(one: str, other: str) -> bool:
    """Whether a topic can match both filters."""
    left, right = one.split("/"), other.split("/")
    for mine, theirs in zip(left, right, strict=False):
        if "#" in (mine, theirs):
            return True
        if mine != theirs and "+" not in (mine, theirs):
            return False
    # `a/#` matches `a` too.
    rest = left[len(right) :] or right[len(left) :]
    return not rest or rest == ["#"]
