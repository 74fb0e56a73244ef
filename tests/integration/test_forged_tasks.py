"""A writer to the broker can make a worker drop a message, and nothing more."""

import json
import os
import pickle
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgpack
import pytest
import redis

from compose.local.stack import Stack
from tests.integration.fleet import wait_until

TASK = "tasks.store.store_batch"


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self._path),)


@pytest.fixture
def broker(pipeline: Stack) -> Iterator[redis.Redis]:
    """The broker of a running worker."""
    with redis.Redis.from_url(pipeline.env["REDIS_URL"]) as client:
        yield client


def message(body: bytes, content_type: str, headers: dict[str, Any]) -> str:
    """A message as kombu puts it into a list of Redis."""
    properties = {
        "correlation_id": uuid4().hex,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "process"},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": uuid4().hex,
    }
    return json.dumps(
        {
            "body": b64encode(body).decode(),
            "content-encoding": "binary",
            "content-type": content_type,
            "headers": headers,
            "properties": properties,
        }
    )


def refused(broker: redis.Redis) -> int:
    """How many messages workers have refused."""
    return int(broker.hget("sluice:counters", "task_messages_refused") or 0)


HEADERS = {"lang": "py", "task": TASK, "id": uuid4().hex, "root_id": None, "parent_id": None}
NOTHING = msgpack.packb([[], {}, {}])


@pytest.mark.parametrize(
    ("body", "content_type", "headers"),
    [
        (b"- 1", "application/x-yaml", HEADERS),
        (b"\xc1\xff", "application/x-msgpack", HEADERS),
        (NOTHING, "application/x-msgpack", HEADERS | {"task": "os.system"}),
        (NOTHING, "application/x-msgpack", {"task": TASK}),
        (NOTHING, "application/x-msgpack", {}),
        (msgpack.packb(17), "application/x-msgpack", HEADERS),
        (msgpack.packb("x"), "application/x-msgpack", {}),
    ],
)
def test_a_malformed_task_message_is_refused_and_counted(
    pipeline: Stack, broker: redis.Redis, body: bytes, content_type: str, headers: dict[str, Any]
) -> None:
    """Another format, broken msgpack, an unknown task, missing parts: counted, and the worker goes on."""
    before, worker = refused(broker), pipeline.pid("worker")
    broker.lpush("process", message(body, content_type, headers))
    wait_until(lambda: refused(broker) > before, 20, "the message to be refused")
    assert pipeline.pid("worker") == worker


def deviations(sound: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The message once for each of its parts that is missing, or of another type than it should be."""
    for name, value in sound.items():
        yield {key: kept for key, kept in sound.items() if key != name}
        odd: Any
        for odd in (None, True, 17, -1.5, "odd", "\0\ud800", [], ["odd"], {}, {"odd": {}}):
            yield sound | {name: odd}
        if isinstance(value, dict):
            yield from (sound | {name: part} for part in deviations(value))


STRANGERS = HEADERS | {"task": "os.system"}
SOUND = json.loads(message(NOTHING, "application/x-msgpack", STRANGERS))
NOT_EVEN_MESSAGES = [
    *(b"", b"no JSON", b"\xff\xfe", b'{"body":', b"[" * 100_000, b"9" * 10_000),
    *(b"null", b"17", b'"text"', b"[]", b"{}", b"[[{}, 1, 2]]", b"NaN"),
    *(b'{"__type__": "decimal", "__value__": "odd"}', b'{"__type__": [], "__value__": 0}'),
    *(json.dumps(odd).encode() for odd in deviations(SOUND)),
]


def test_what_is_no_message_at_all_is_refused_and_counted(pipeline: Stack, broker: redis.Redis) -> None:
    """Whatever is in a queue's list, JSON or not: each is counted once, and the worker goes on."""
    before, worker = refused(broker), pipeline.pid("worker")
    broker.lpush("process", *NOT_EVEN_MESSAGES)
    wait_until(lambda: refused(broker) >= before + len(NOT_EVEN_MESSAGES), 60, "everything to be refused")
    assert refused(broker) == before + len(NOT_EVEN_MESSAGES)
    assert pipeline.pid("worker") == worker


OPTIONAL = (
    *("argsrepr", "callbacks", "chord", "errbacks", "eta", "expires", "group", "group_index", "kwargsrepr"),
    *("ignore_result", "origin", "reply_to", "replaced_task_nesting", "retries", "shadow", "stamped_headers"),
    *("stamps", "timelimit"),
)
EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
FIRST_PROTOCOL = {
    "task": TASK,
    "id": "1",
    "args": [],
    "kwargs": {},
    "retries": 0,
    "eta": None,
    "expires": None,
}
ODD_TASKS = [
    *(json.dumps(odd) for odd in deviations(json.loads(message(NOTHING, "application/x-msgpack", HEADERS)))),
    *(
        message(NOTHING, "application/x-msgpack", odd)
        for odd in deviations(HEADERS | dict.fromkeys(OPTIONAL))
    ),
    # Times that Celery reads, and cannot calculate with.
    *(
        message(NOTHING, "application/x-msgpack", HEADERS | {name: moment})
        for name in ("eta", "expires")
        for moment in ("9999-12-31T24:00", "9999-W53-7")
    ),
    *(message(json.dumps(odd).encode(), "application/json", {}) for odd in deviations(FIRST_PROTOCOL)),
    *(
        message(json.dumps([[], {}, odd]).encode(), "application/json", HEADERS)
        for odd in deviations(EMBEDDED)
    ),
]


def test_odd_parts_of_a_known_task_do_not_end_the_worker(pipeline: Stack, broker: redis.Redis) -> None:
    """A task that we have, as no Celery would write it: it fails or is refused, no more."""
    before, worker = refused(broker), pipeline.pid("worker")
    # A worker that was killed leaves some behind, until the visibility timeout gives them to another.
    abandoned = set(broker.hkeys("unacked"))
    broker.lpush("process", *ODD_TASKS)
    broker.lpush("process", message(NOTHING, "application/x-msgpack", STRANGERS))
    wait_until(lambda: broker.llen("process") == 0, 120, "all to be taken")
    wait_until(lambda: refused(broker) > before, 20, "the last to be refused")
    # Unacknowledged messages would keep the worker's children busy, and come again.
    wait_until(lambda: set(broker.hkeys("unacked")) <= abandoned, 60, "all to be done with")
    assert pipeline.pid("worker") == worker


def test_what_is_no_command_does_not_end_the_worker(pipeline: Stack, broker: redis.Redis) -> None:
    """Celery's commands to workers come by another way, on which rubbish does no harm either."""
    before, worker = refused(broker), pipeline.pid("worker")
    for odd in (b"no JSON", b"17", b"{}", b'{"properties": []}'):
        assert broker.publish("/0.celery.pidbox", odd), "no worker listens"
    broker.lpush("process", message(NOTHING, "application/x-msgpack", STRANGERS))
    wait_until(lambda: refused(broker) > before, 20, "the message after them to be refused")
    assert pipeline.pid("worker") == worker


def test_a_forged_task_runs_no_code(pipeline: Stack, broker: redis.Redis, tmp_path: Path) -> None:
    """A pickle that would run a function when it is read is never read."""
    before, worker = refused(broker), pipeline.pid("worker")
    trap = tmp_path / "sprung"
    assert isinstance(pickle.dumps(Trap(trap)), bytes)
    for content_type in ("application/x-python-serialize", "application/x-msgpack"):
        broker.lpush("process", message(pickle.dumps(Trap(trap)), content_type, HEADERS))
    wait_until(lambda: refused(broker) >= before + 2, 20, "both messages to be refused")
    assert not trap.exists()
    assert pipeline.pid("worker") == worker
