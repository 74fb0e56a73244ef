"""Places for requests that take long: few in all, and never all of them one tenant's."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from ingest.api.callers import Caller
from ingest.api.problems import Busy


class Places:
    """At most `most` at the same time, `most_of_a_tenant` of one tenant; one is kept for the operator."""

    def __init__(self, doing: str, most: int, most_of_a_tenant: int) -> None:
        self._doing = doing
        self._most = most
        self._most_of_a_tenant = most_of_a_tenant
        self._lock = threading.Lock()
        self._taken: Counter[str | None] = Counter()

    @contextmanager
    def one(self, caller: Caller) -> Iterator[None]:
        """A place for the block. Raises `Busy`, at once, when there is none for the caller."""
        self._take(caller)
        try:
            yield
        finally:
            with self._lock:
                self._taken[caller.user_id] -= 1
                # Only who holds a place is remembered.
                self._taken += Counter()

    def _take(self, caller: Caller) -> None:
        with self._lock:
            of_all, of_caller = self._taken.total(), self._taken[caller.user_id]
            if not caller.is_operator and of_caller >= self._most_of_a_tenant:
                raise Busy(
                    f"{of_caller} requests with tokens of this user {self._doing} already, and no more may"
                    " at the same time. Wait for their answers."
                )
            if of_all >= (self._most if caller.is_operator else self._most - 1):
                raise Busy(f"{of_all} requests {self._doing} already. Try again in a moment.")
            self._taken[caller.user_id] += 1
