"""Counts what each user has waiting."""

import threading
from collections import Counter


class Tally:
    """Counts things and their bytes by user, up to a limit of each. Any thread may call it."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._counts: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, user_id: str, size: int, *, always: bool = False) -> bool:
        """Counts one more, unless that is too much for this user and not to be counted `always`."""
        with self._lock:
            full = self._counts[user_id] >= self._most or self._bytes[user_id] + size > self._most_bytes
            if full and not always:
                return False
            self._counts[user_id] += 1
            self._bytes[user_id] += size
            return True

    def remove(self, user_id: str, size: int) -> None:
        """Counts one less."""
        with self._lock:
            self._counts[user_id] -= 1
            self._bytes[user_id] -= size
            if not self._counts[user_id]:
                del self._counts[user_id], self._bytes[user_id]
