"""A cache bounded by weight; what was not used for longest goes first. Pure."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """Values by their keys, which weigh at most `most` together. A single one may weigh more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        # In the order of their last use.
        self._values: dict[Key, tuple[Value, int]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        """The value, which counts as used now; None if there is none."""
        found = self._values.pop(key, None)
        if found is None:
            return None
        self._values[key] = found
        return found[0]

    def put(self, key: Key, value: Value, weight: int = 1) -> None:
        """Keeps a value whose key has none."""
        while self._values and self._weight + weight > self._most:
            oldest = next(iter(self._values))
            self._weight -= self._values.pop(oldest)[1]
        self._values[key] = value, weight
        self._weight += weight
