"""What users ask for, on its way through the workers: one request of a user at a time, in their order.

Each request becomes a task and waits for its answer. One that is not answered in time, because a worker was
killed or Redis was flushed, is sent again, under the same id, which makes its second run harmless.
"""

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import uuid4

import redis
import structlog
from kombu.exceptions import OperationalError

from ingest.acknowledge import Unacknowledged
from tasks.config import Answer, Kind, Reply, manage_alert, set_rules
from tasks.redis_client import answered_key, answers_key, client, received_key, request_key

log = structlog.get_logger()

FIRST_WAIT_SECONDS = 5.0
MAX_WAIT_SECONDS = 60.0
# A message that comes again does so when its connection does.
REMEMBER_SECONDS = 3600
MAX_PAUSE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Request:
    """A message of a user that waits for its answer."""

    kind: Kind
    user_id: str
    document: bytes
    mid: int
    again: bool  # the broker says that it may have come before
    retained: bool
    waiting: list[Unacknowledged] = field(default_factory=list)
    id: str = ""
    at_ms: int = 0
    attempt: int = 0
    send_at: float = 0.0

    def wait_seconds(self) -> float:
        """How long to wait for the answer to the attempt that was just made."""
        return min(FIRST_WAIT_SECONDS * 2.0 ** min(self.attempt - 1, 10), MAX_WAIT_SECONDS)


Answered = Callable[[Request, Answer | None], None]


class Requests:
    """`put` may be called by any thread; `run_once` does all the work, and calls `answered` for each one."""

    def __init__(self, answered: Answered) -> None:
        self.control = uuid4().hex[:12]
        self._answered = answered
        self._events: queue.SimpleQueue[Request | Reply] = queue.SimpleQueue()
        self._by_user: dict[str, deque[Request]] = {}
        self._by_id: dict[str, Request] = {}
        self._unnamed: deque[Request] = deque()
        self._name_at = 0.0
        self._name_pause = 0.1
        self._last_ms = 0
        self._closing = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="answers", daemon=True)
        self._listener.start()

    def __len__(self) -> int:
        return len(self._by_id) + len(self._unnamed) + self._events.qsize()

    def put(self, request: Request) -> None:
        """Takes a request; its place among those of its user is the place of this call."""
        self._events.put(request)

    def listens(self) -> bool:
        """Whether answers can still be heard."""
        return self._listener.is_alive()

    def run_once(self, seconds: float) -> None:
        """Handles what has come, waiting at most so many seconds for something, and sends what is due."""
        with suppress(queue.Empty):
            event = self._events.get(timeout=seconds)
            while True:
                if isinstance(event, Request):
                    self._unnamed.append(event)
                else:
                    self._finish(event)
                event = self._events.get_nowait()
        self._name_all()
        now = time.monotonic()
        for of_user in self._by_user.values():
            if now >= of_user[0].send_at:
                self._send(of_user[0], now)

    def close(self) -> None:
        """Ends the listening thread."""
        self._closing.set()
        self._listener.join()

    def _name_all(self) -> None:
        now = time.monotonic()
        while self._unnamed and now >= self._name_at:
            try:
                answered = self._name(self._unnamed[0])
            except redis.RedisError as error:
                log.warning("request_not_taken", error=str(error), again_in_s=self._name_pause)
                self._name_at = now + self._name_pause
                self._name_pause = min(self._name_pause * 2, MAX_PAUSE_SECONDS)
                return
            self._name_pause = 0.1
            request = self._unnamed.popleft()
            if (known := self._by_id.get(request.id)) is not None:
                # It came before, by a connection that has ended, and is still being worked on.
                known.waiting += request.waiting
                continue
            self._by_id[request.id] = request
            self._by_user.setdefault(request.user_id, deque()).append(request)
            if answered is not None:
                self._finish(answered)

    def _name(self, request: Request) -> Reply | None:
        """Gives the request its id and time: those of before when it comes again, so that it counts once.

        Returns the answer of before, if there was one.
        """
        mark = f"{request.mid} {request.kind} {request.user_id} ".encode() + request.document
        key = received_key(sha256(mark).hexdigest())
        before = client().get(key) if request.again else None
        if isinstance(before, bytes):
            name, at_ms = before.decode().split()
            request.id, request.at_ms = name, int(at_ms)
            answered = client().get(answered_key(name))
            reply: Reply | None = json.loads(answered) if isinstance(answered, bytes) else None
            return reply
        # Each later than the one before: of two commands in one millisecond, the second is the newer.
        at_ms_now = max(int(time.time() * 1000), self._last_ms + 1)
        name = uuid4().hex
        client().set(key, f"{name} {at_ms_now}", ex=REMEMBER_SECONDS)
        request.id, request.at_ms, self._last_ms = name, at_ms_now, at_ms_now
        return None

    def _send(self, request: Request, now: float) -> None:
        request.attempt += 1
        wait = request.wait_seconds()
        request.send_at = now + wait
        note = log.debug if request.attempt == 1 else log.warning
        note(
            "request_sent",
            request=request.id,
            kind=request.kind,
            user_id=request.user_id,
            attempt=request.attempt,
        )
        arguments = {
            "user_id": request.user_id,
            "document": request.document,
            "request": request.id,
            "control": self.control,
        }
        try:
            client().set(request_key(request.id), 1, ex=int(2 * MAX_WAIT_SECONDS))
            # For Flower: without the document, which is the user's.
            shown = f"user_id={request.user_id!r}, request={request.id!r}, bytes={len(request.document)}"
            if request.kind == "config":
                kwargs = {**arguments, "retained": request.retained}
                set_rules.apply_async(kwargs=kwargs, kwargsrepr=shown)  # type: ignore[call-arg]
            else:
                manage_alert.apply_async(kwargs={**arguments, "at_ms": request.at_ms}, kwargsrepr=shown)  # type: ignore[call-arg]
        except (redis.RedisError, OperationalError) as error:
            log.warning("request_not_sent", request=request.id, error=str(error), again_in_s=wait)

    def _finish(self, reply: Reply) -> None:
        request = self._by_id.pop(reply["request"], None)
        if request is None:
            return
        of_user = self._by_user[request.user_id]
        of_user.remove(request)
        if not of_user:
            del self._by_user[request.user_id]
        self._answered(request, reply["answer"])

    def _listen(self) -> None:
        pause = 0.1
        while not self._closing.is_set():
            try:
                reported = client().blpop([answers_key(self.control)], timeout=1)
            except redis.RedisError as error:
                log.warning("answers_not_heard", error=str(error), again_in_s=pause)
                self._closing.wait(pause)
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
                continue
            pause = 0.1
            if reported:
                self._events.put(json.loads(reported[1]))
