"""How many more alerts each user may have open; the commits that open and close them count in Redis."""

from collections.abc import Iterable

from tasks.rules.state import DeviceState
from tasks.servers.redis_client import OPEN_ALERTS, client
from tasks.settings import settings


class Rooms:
    """The users' rooms during a decision: unlimited until a commit was refused for too many open alerts.

    So a user far from the limit, as most are, costs no extra command.
    """

    def __init__(self) -> None:
        self.most = settings().open_alerts_per_user
        self._asks = False
        self._left: dict[str, int] = {}

    def begin(self, users: Iterable[str]) -> None:
        """Begins an attempt to decide. Raises `redis.RedisError`."""
        if not self._asks:
            return
        names = sorted(set(users))
        counts = client().hmget(OPEN_ALERTS, names)
        self._left = {name: self.most - int(count or 0) for name, count in zip(names, counts, strict=True)}

    def limit(self) -> None:
        """A commit was refused: the next attempt reads the rooms from Redis."""
        self._asks = True

    def left(self, user_id: str) -> int | None:
        """How many more alerts of the user may be open: negative for too many, None for any number."""
        return self._left.get(user_id)

    def take(self, before: DeviceState, after: DeviceState) -> int:
        """Notes the decision about a device; returns how many more of its alerts are open."""
        opened = after.open_alerts - before.open_alerts
        if opened and (left := self._left.get(after.user_id)) is not None:
            self._left[after.user_id] = left - opened
        return opened
