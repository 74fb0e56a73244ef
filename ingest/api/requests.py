"""Rules and commands about alerts on their way through a worker, with its answer.

A task that meets a server that is away gives no answer; it is sent again under the same id, so that a second
run does no harm. A request that is not answered in time is given up: no worker begins it any more.
"""

import json
import math
import time
from contextlib import suppress
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


def ask(caller: Caller, kind: Kind, user_id: str, document: bytes) -> Answer:
    """The answer of a worker to a user's document, or to the operator's for the user.

    Raises `Busy` without an answer, and when too many wait for one; `ServerAway` without Redis.
    """
    with _waiting.one(caller):
        return _ask(kind, user_id, document, caller.name if caller.is_operator else None)


def _ask(kind: Kind, user_id: str, document: bytes, by: str | None) -> Answer:
    request = uuid4().hex
    # An address of its own for each answer: many processes may ask, and none needs to listen all the time.
    control = f"web-{request}"
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        client().set(request_key(request), 1, px=math.ceil(WAIT_SECONDS * 1000))
        at_ms, send_at = int(time.time() * 1000), 0.0
        while (left := deadline - (now := time.monotonic())) > 0:
            if now >= send_at:
                _send(kind, user_id, document, request, control, at_ms, by)
                send_at = now + AGAIN_SECONDS
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
        f"No worker has answered within {WAIT_SECONDS:.0f} s. The request was given up; look whether it"
        " was done, and send it again."
    )


def _send(
    kind: Kind, user_id: str, document: bytes, request: str, control: str, at_ms: int, by: str | None
) -> None:
    # For Flower: without the document, which is the user's.
    shown = f"user_id={user_id!r}, request={request!r}, bytes={len(document)}"
    if kind == "config":
        call = calls.set_rules(user_id, document, request, control, retained=False, by=by)
    else:
        call = calls.manage_alert(user_id, document, request, control, at_ms, by=by)
    call.apply_async(kwargsrepr=shown)
