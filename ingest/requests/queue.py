"""Requests of users on their way through the workers: one of each user at a time, in their order.

Each request becomes a task and waits for its answer. A request without an answer in time, because a worker
was killed or Redis was flushed, is sent again, under the same id, which makes its second run harmless. After
REQUEST_PATIENCE_SECONDS it is given up, and the user gets an answer that says so.
"""

import json
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, takewhile
from uuid import uuid4

import redis
import structlog
from kombu.exceptions import OperationalError

from ingest.mqtt.acknowledge import Unacknowledged
from ingest.requests.fence import Superseded
from ingest.requests.tally import Tally
from ingest.requests.topics import NOWHERE_ELSE, QUERIES, ReplyTo
from tasks import calls
from tasks.observe.internal_error import internal_error
from tasks.observe.metrics import control as metrics
from tasks.rules.answers import Answer, Kind, Reply, given_up
from tasks.rules.parsing import MAX_DOCUMENT_BYTES
from tasks.servers.pauses import pauses
from tasks.servers.redis_client import answered_key, answers_key, client, received_key, request_key

log = structlog.get_logger()

FIRST_WAIT_SECONDS = 5.0
MAX_WAIT_SECONDS = 60.0
# No task may begin a request this long before it is given up: a task that has begun can still answer.
LAST_BEGIN_SECONDS = calls.SET_RULES_SECONDS + 5.0
# The broker sends a message again when its client reconnects.
REMEMBER_SECONDS = 3600
MAX_PAUSE_SECONDS = 5.0
MOST_BYTES_OF_A_USER = 4 * MAX_DOCUMENT_BYTES


@dataclass(slots=True, eq=False)
class Request:
    """A message of a user that waits for its answer. After QoS 0 nothing is `waiting`."""

    kind: Kind
    user_id: str
    document: bytes
    mid: int
    again: bool  # the broker says that it may have come before
    retained: bool
    waiting: list[Unacknowledged] = field(default_factory=list)
    reply_to: ReplyTo = NOWHERE_ELSE
    by: str | None = None  # who sent it, if that is not the user
    id: str = field(default_factory=lambda: uuid4().hex)
    at_ms: int = 0
    attempt: int = 0
    send_at: float = 0.0
    since: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        """How many bytes of the user's are kept for it."""
        return len(self.document) + len(self.reply_to)

    def wait_seconds(self) -> float:
        """How long to wait for the answer to the attempt that was just made."""
        return min(FIRST_WAIT_SECONDS * 2.0 ** min(self.attempt - 1, 10), MAX_WAIT_SECONDS)


Answered = Callable[[Request, Answer | None], None]
SetKey = Callable[[str, str, int], None]
"""Sets a key in Redis, with a value, for so many milliseconds."""


def set_key(key: str, value: str, milliseconds: int) -> None:
    """Sets it for a process that has no rival. Raises `redis.RedisError`."""
    client().set(key, value, px=milliseconds)


class Requests:
    """`put` may be called by any thread; `run_once` does all the work, and calls `answered` for each one.

    `patience_seconds` is how long a request may take, `most` how many one user may have. Nothing is begun
    that `fenced` does not let in: what it raises comes out of `run_once`.
    """

    def __init__(
        self, answered: Answered, *, patience_seconds: float, most: int, fenced: SetKey = set_key
    ) -> None:
        self.control = uuid4().hex[:12]
        self._set_key = fenced
        self._answered = answered
        self._patience = patience_seconds
        self._tally = Tally(most, MOST_BYTES_OF_A_USER)
        self._events: queue.SimpleQueue[Request | Reply] = queue.SimpleQueue()
        self._by_user: dict[str, deque[Request]] = {}
        self._by_id: dict[str, Request] = {}
        self._unnamed: deque[Request] = deque()
        self._oldest_since: float | None = None
        self._unheard_since: float | None = None
        self._name_at = 0.0
        self._name_pauses = pauses(0.1, MAX_PAUSE_SECONDS)
        self._last_ms = 0
        self._closing = threading.Event()
        self._listener = threading.Thread(target=self._listen, name="answers", daemon=True)

    def __len__(self) -> int:
        return len(self._tally)

    def start(self) -> None:
        """Begins to listen to answers."""
        self._listener.start()

    def put(self, request: Request) -> bool:
        """Takes a request; its place among those of its user is the place of this call.

        Returns False, and takes nothing, if that user has too many already. A redelivery was counted before.
        """
        taken = self._tally.add(request.user_id, request.size, always=request.again)
        if taken:
            self._events.put(request)
        return taken

    def is_alive(self) -> bool:
        """Whether answers can still be heard."""
        return self._listener.is_alive()

    def oldest_seconds(self) -> float:
        """For how long the request that has waited longest has waited; 0 when none waits."""
        since = self._oldest_since
        return 0.0 if since is None else time.monotonic() - since

    def unheard_seconds(self) -> float:
        """For how long no request that was sent has been answered; 0 when one has been since."""
        since = self._unheard_since
        return 0.0 if since is None else time.monotonic() - since

    def run_once(self, seconds: float) -> None:
        """Handles what has come, waiting at most this many seconds for something, and sends what is due."""
        with suppress(queue.Empty):
            event = self._events.get(timeout=seconds)
            while True:
                if isinstance(event, Request):
                    self._unnamed.append(event)
                else:
                    self._unheard_since = None
                    self._finish(event)
                event = self._events.get_nowait()
        self._name_all()
        now = time.monotonic()
        self._give_up_overdue(now)
        for request in [of_user[0] for of_user in self._by_user.values()]:
            if now >= request.send_at and not self._send(request, now):
                break
        first = next(chain(self._by_id.values(), self._unnamed), None)
        self._oldest_since = None if first is None else first.since

    def give_up(self, message: Unacknowledged) -> None:
        """Gives up the request of this message at once, if it still waits for its answer."""
        for request in [one for one in self._by_id.values() if message in one.waiting]:
            with suppress(redis.RedisError):
                client().delete(request_key(request.id))
            self._give_up(request)

    def close(self) -> None:
        """Ends the listening thread."""
        self._closing.set()
        self._listener.join()

    def _name_all(self) -> None:
        now = time.monotonic()
        while self._unnamed and now >= self._name_at:
            request = self._unnamed[0]
            try:
                answered = self._name(request)
            except redis.RedisError as error:
                pause = next(self._name_pauses)
                log.warning("request_not_taken", error=str(error), again_in_s=pause)
                self._unheard_since = self._unheard_since or now
                self._name_at = now + pause
                return
            except Superseded:
                raise
            except Exception:  # noqa: BLE001 - it is this request's alone, and the user hears of it
                self._end(request, internal_error(request.kind, request.user_id, request.id))
                continue
            self._name_pauses = pauses(0.1, MAX_PAUSE_SECONDS)
            self._unnamed.popleft()
            if (known := self._by_id.get(request.id)) is not None:
                # It came before, by a connection that has ended, and is still being worked on.
                known.waiting += request.waiting
                self._tally.remove(request.user_id, request.size)
                continue
            self._by_id[request.id] = request
            self._by_user.setdefault(request.user_id, deque()).append(request)
            if answered is not None:
                self._finish(answered)

    def _name(self, request: Request) -> Reply | None:
        """Gives the request its id and time: the earlier ones for a redelivery, so that it counts once.

        Returns the earlier answer, if there was one.
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
        request.at_ms = max(int(time.time() * 1000), self._last_ms + 1)
        if request.waiting:
            self._set_key(key, f"{request.id} {request.at_ms}", REMEMBER_SECONDS * 1000)
        self._last_ms = request.at_ms
        return None

    def _send(self, request: Request, now: float) -> bool:
        """False when the servers did not take it: each further try would cost their timeouts."""
        request.attempt += 1
        wait = request.wait_seconds()
        request.send_at = now + wait
        awaited = min(2 * MAX_WAIT_SECONDS, request.since + self._patience - LAST_BEGIN_SECONDS - now)
        if awaited <= 0 and request.attempt > 1:
            return True
        if request.attempt == 1:
            self._unheard_since = self._unheard_since or now
        note = log.debug if request.attempt == 1 else log.warning
        note(
            "request_sent",
            request=request.id,
            kind=request.kind,
            user_id=request.user_id,
            attempt=request.attempt,
        )
        try:
            self._set_key(request_key(request.id), "1", max(1000, math.ceil(awaited * 1000)))
            self._dispatch(request)
        except (redis.RedisError, OperationalError) as error:
            log.warning("request_not_sent", request=request.id, error=str(error), again_in_s=wait)
            return False
        except Superseded:
            raise
        except Exception:  # noqa: BLE001 - it is this request's alone, and the user hears of it
            self._end(request, internal_error(request.kind, request.user_id, request.id))
        return True

    def _dispatch(self, request: Request) -> None:
        asked = (request.user_id, request.document, request.id, self.control)
        # For Flower: without the document, which is the user's.
        shown = f"user_id={request.user_id!r}, request={request.id!r}, bytes={len(request.document)}"
        if request.kind == "config":
            call = calls.set_rules(*asked, retained=request.retained)
        elif request.kind in QUERIES:
            call = calls.read_back(request.kind, *asked)
        else:
            call = calls.manage_alert(*asked, request.at_ms, by=request.by)
        call.apply_async(kwargsrepr=shown)

    def _give_up_overdue(self, now: float) -> None:
        # Both are in the order in which the requests came.
        overdue = [
            request
            for some in (self._by_id.values(), self._unnamed)
            for request in takewhile(lambda one: now >= one.since + self._patience, some)
        ]
        for request in overdue:
            self._give_up(request)

    def _give_up(self, request: Request) -> None:
        metrics.REQUESTS_GIVEN_UP.add(1, request.kind)
        log.error("request_given_up", request=request.id, user_id=request.user_id, attempts=request.attempt)
        self._end(request, given_up(request.kind, time.monotonic() - request.since))

    def _finish(self, reply: Reply) -> None:
        request = self._by_id.get(reply["request"])
        if request is not None:
            self._end(request, reply["answer"])

    def _end(self, request: Request, answer: Answer | None) -> None:
        if self._by_id.get(request.id) is not request:
            self._unnamed.remove(request)
        else:
            del self._by_id[request.id]
            of_user = self._by_user[request.user_id]
            of_user.remove(request)
            if not of_user:
                del self._by_user[request.user_id]
        self._tally.remove(request.user_id, request.size)
        self._answered(request, answer)

    def _listen(self) -> None:
        waits = pauses(0.1, MAX_PAUSE_SECONDS)
        while not self._closing.is_set():
            try:
                reported = client().blpop([answers_key(self.control)], timeout=1)
            except redis.RedisError as error:
                pause = next(waits)
                log.warning("answers_not_heard", error=str(error), again_in_s=pause)
                self._closing.wait(pause)
                continue
            waits = pauses(0.1, MAX_PAUSE_SECONDS)
            if reported:
                self._events.put(json.loads(reported[1]))
