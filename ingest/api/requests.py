"""Rules, commands about alerts and tests of channels on their way through a worker, with its answer.

A task that meets a server that is away gives no answer; it is sent again under the same id, so that a second
run does no harm. A request that is not answered in time is given up: no worker begins it any more.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal
from uuid import uuid4

import redis
import structlog
from kombu.exceptions import OperationalError

from ingest.admin.errors import ServerAway
from ingest.api.callers import Caller
from ingest.api.places import Places
from ingest.api.problems import Busy
from tasks import calls
from tasks.rules.answers import Answer, Kind
from tasks.servers.redis_client import answers_key, client, request_key

log = structlog.get_logger()

WAIT_SECONDS = 20.0
# Longer than most answers take.
AGAIN_SECONDS = 4.0
POLL_SECONDS = 1
# While no worker answers, whoever waits holds a thread, which all other requests need too.
_waiting = Places("wait for a worker", 5, 2)
# A channel that hangs holds a process of `notify`, and all other channels need them too.
_trying = Places("try a channel", 2, 1)
TRY_SECONDS = 45.0

Send = Callable[[str, str], None]
"""Sends a request, of this id and to be answered at this address."""


def ask(
    caller: Caller,
    kind: Literal["config", "manage"],
    user_id: str,
    document: bytes,
    *,
    seen: str | None = None,
) -> Answer:
    """The answer of a worker to a user's document, or to the operator's for the user.

    Rules that were changed after the time that is `seen` (empty: made since) stay, and the answer is stale.

    Raises `Busy` without an answer, and when too many wait for one; `ServerAway` without Redis.
    """
    by, at_ms = caller.name if caller.is_operator else None, int(time.time() * 1000)
    with _waiting.one(caller):
        return _ask(kind, user_id, partial(_send, kind, user_id, document, at_ms, by, seen))


def try_channel(caller: Caller, user_id: str, name: str) -> Answer:
    """The answer of a worker of `notify` that has tried a channel. Raises as `ask` does."""

    def send(request: str, control: str) -> None:
        calls.try_channel(user_id, name, request, control).apply_async()

    with _trying.one(caller):
        # Sent once: a second one would be a second message.
        return _ask("channel", user_id, send, seconds=TRY_SECONDS, again_s=math.inf)


def _ask(
    kind: str, user_id: str, send: Send, seconds: float = WAIT_SECONDS, again_s: float = AGAIN_SECONDS
) -> Answer:
    request = uuid4().hex
    # An address of its own for each answer: many processes may ask, and none needs to listen all the time.
    control = f"web-{request}"
    deadline = time.monotonic() + seconds
    try:
        client().set(request_key(request), 1, px=math.ceil(seconds * 1000))
        send_at = 0.0
        while (left := deadline - (now := time.monotonic())) > 0:
            if now >= send_at:
                send(request, control)
                send_at = now + again_s
            found = client().blpop([answers_key(control)], timeout=min(POLL_SECONDS, max(left, 0.1)))
            if found and (answer := json.loads(found[1])["answer"]) is not None:
                given: Answer = answer
                return given
    except (redis.RedisError, OperationalError) as error:
        raise ServerAway(
            f"The request could not be handed to a worker: {error}. Check REDIS_URL and that the server runs."
        ) from error
    with suppress(redis.RedisError):
        client().delete(request_key(request))
    log.error("request_given_up", request=request, kind=kind, user_id=user_id)
    raise Busy(
        f"No worker has answered within {seconds:.0f} s. The request was given up; look whether it"
        " was done, and send it again."
    )


def _send(
    kind: Kind,
    user_id: str,
    document: bytes,
    at_ms: int,
    by: str | None,
    seen: str | None,
    request: str,
    control: str,
) -> None:
    # For Flower: without the document, which is the user's.
    shown = f"user_id={user_id!r}, request={request!r}, bytes={len(document)}"
    if kind == "config":
        call = calls.set_rules(user_id, document, request, control, retained=False, by=by, seen=seen)
    else:
        call = calls.manage_alert(user_id, document, request, control, at_ms, by=by)
    call.apply_async(kwargsrepr=shown)
