"""The state of everything, as `sluice status` shows it."""

import threading
import time
from typing import Any

from fastapi import APIRouter

from ingest.admin.servers import status as work
from ingest.api.callers import Operator
from ingest.api.problems import Busy, described
from tasks.settings import settings

# Each look opens connections to every server and takes seconds, so all who ask share one.
FRESH_SECONDS = 5.0
WAIT_SECONDS = 20.0

router = APIRouter(tags=["status"])
_lock = threading.Lock()
_last: tuple[float, dict[str, Any]] | None = None


@router.get("/status", responses=described(403))
def status(_: Operator) -> dict[str, Any]:
    """What is wrong, the worst first (`problems`), and the figures of every server and process.

    At most five seconds old. A server that does not answer has `away`, the reason, in place of its figures.
    """
    return shared()


def shared() -> dict[str, Any]:
    """A look at everything that is at most `FRESH_SECONDS` old. Raises `Busy`."""
    global _last  # noqa: PLW0603 - one look of this process, behind its lock
    if not _lock.acquire(timeout=WAIT_SECONDS):
        raise Busy(f"The servers have not answered another request for {WAIT_SECONDS:.0f} s. Try again.")
    try:
        if _last is None or time.monotonic() - _last[0] > FRESH_SECONDS:
            _last = time.monotonic(), work.look(settings())
        return _last[1]
    finally:
        _lock.release()
