"""Whether a worker takes its work: a process can be alive, and connected, and deaf.

Each worker's main process watches itself: it is deaf when there is work, and it has taken none for some time
although it has free processes, or because its event loop stands still. Then it ends, and its supervisor
starts it again. It also writes what it sees to Redis (`tasks.servers.workers`).
"""

from tasks.servers.workers import Snapshot


class Attention:
    """Computes for how long a worker has taken none of the work that waited for it. Pure, without I/O."""

    def __init__(self) -> None:
        self._taken = -1
        self._since: float | None = None

    def deaf_for(self, snapshot: Snapshot, now: float) -> float:
        """Seconds for which there was work at every look, and the worker free, and nothing was taken."""
        if snapshot.queued == 0 or snapshot.busy or snapshot.taken != self._taken:
            self._taken, self._since = snapshot.taken, None
            return 0.0
        if self._since is None:
            self._since = now
        return now - self._since

    def forget(self) -> None:
        """Starts again, because it is unknown whether there was work."""
        self._since = None
