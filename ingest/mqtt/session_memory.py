"""Notices that the broker has lost a session of ours, and with it unread messages."""

import hashlib
import threading
import time

import redis
import structlog

from tasks.servers.redis_client import SESSIONS, client

log = structlog.get_logger()


class SessionMemory:
    """Notes each connection of a session, and counts those at which the broker had lost it.

    That an earlier process had the session is known from Redis; after a FLUSHALL a loss between two processes
    goes unnoticed, one within this process does not.
    """

    def __init__(self, client_id: str) -> None:
        self._digest = hashlib.sha256(client_id.encode()).hexdigest()[:16]
        self._connected = False
        self.lost = 0

    def connected(self, *, present: bool) -> None:
        """The broker has accepted the connection, and says whether it has the session. Never blocks."""
        before, self._connected = self._connected, True
        if before and not present:
            self._note_loss()
        # In a thread of its own: Redis may take its timeouts, and messages must not wait for it.
        threading.Thread(target=self._remember, args=(before or present,), daemon=True).start()

    def _remember(self, judged: bool) -> None:
        try:
            new = client().hset(SESSIONS, self._digest, str(time.time_ns() // 1_000_000))
        except redis.RedisError as error:
            log.warning("session_not_remembered", error=str(error))
            return
        if not new and not judged:
            self._note_loss()

    def _note_loss(self) -> None:
        self.lost += 1
        log.error(
            "mqtt_session_lost",
            reason="the broker has lost the session of this client id, and the messages that waited in it",
        )
