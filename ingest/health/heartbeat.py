"""The gateway's sign of life, once a second: it distinguishes a silent device from a gateway that is away.

An absence rule counts only the time in which a message would have been heard: see `tasks.alerts.silence`.
"""

import threading
import time
from collections.abc import Callable

import redis
import structlog

from tasks.servers import clocks, gateways
from tasks.servers.gateways import GatewayStatus

log = structlog.get_logger()

BEAT_SECONDS = 1.0


class Heartbeat:
    """A thread that writes to Redis: since when this gateway has listened without a break, and the time.

    Both are by Redis' clock. It also writes how many ms the gateway's own clock, which stamps the records, is
    ahead of that.

    Each beat calls `listens`. The thread keeps a Redis that does not answer from holding up messages; while
    Redis is away, the gateway counts as not listening.
    """

    def __init__(self, gateway: str, listens: Callable[[], bool]) -> None:
        self._gateway = gateway
        self._listens = listens
        self._since_ms = 0
        self._away = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begins to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Says that nobody listens any more, and ends the thread."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(BEAT_SECONDS):
            self._beat(listens=self._listens())
        self._beat(listens=False)

    def _beat(self, *, listens: bool) -> None:
        try:
            now_ms = clocks.now_ms()
            skew_ms = time.time_ns() // 1_000_000 - now_ms
            if not listens:
                self._since_ms = 0
            elif not self._since_ms:
                self._since_ms = now_ms
            gateways.write(self._gateway, GatewayStatus(self._since_ms, now_ms, skew_ms))
        except redis.RedisError as error:
            if not self._away:
                log.warning("heartbeat_not_written", error=str(error))
            self._away = True
            if not listens:
                self._since_ms = 0
            return
        if self._away:
            log.info("heartbeat_written_again")
            self._away = False
