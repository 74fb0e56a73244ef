"""`--autoscale`: how many children a worker keeps.

Celery's own autoscaler ends the children that are idle at one moment, at the first task message after half a
minute, and forks them again at the next: each new child connects and reads the rules anew, for which the
batches of all lanes wait, and a child that is ended as it is handed a task takes the task's batch with it.
"""

from time import monotonic
from typing import Any

from celery.worker import autoscale

KEEP_SECONDS = 60.0


class Need:
    """The most tasks at once during the last `keep` seconds, or up to twice that. Pure, without a clock."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._began = 0.0
        self._before = self._most = 0

    def most(self, tasks: int, now: float) -> int:
        """Takes note of the tasks that there are now (a monotonic time in seconds)."""
        if (passed := now - self._began) >= self._keep:
            self._before = self._most if passed < 2 * self._keep else 0
            self._began, self._most = now, 0
        self._most = max(self._most, tasks)
        return max(self._most, self._before)


class Autoscaler(autoscale.Autoscaler):
    """Adds children as soon as there are more tasks, and ends those that no task needed for `KEEP_SECONDS`.

    Only the timer ends children, every 30 s: when a message comes, its task is about to be handed to one.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._need = Need(KEEP_SECONDS)

    def _maybe_scale(self, req: Any = None) -> bool:
        needed = self._need.most(self.qty, monotonic())
        more = min(max(needed, self.min_concurrency), self.max_concurrency) - self.processes
        if more > 0:
            self.scale_up(more)
        elif more < 0 and req is None:
            self.scale_down(-more)
        else:
            return False
        return True
