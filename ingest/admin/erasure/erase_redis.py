"""What Redis has of a user or a device: alert states, which end as if the rules were gone, and memories."""

import json
import re
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import redis

from ingest.admin.erasure.erase_tables import Target
from ingest.admin.errors import OperatorError
from tasks import registry
from tasks.alerts import newest, state_store
from tasks.errors import NotNow
from tasks.outbox import deliver, stream
from tasks.rules import machine
from tasks.rules.rule import RuleSet
from tasks.rules.state import DeviceState
from tasks.servers.pauses import pauses
from tasks.servers.redis_client import LAST_SEEN, NEWEST, OUTBOX_REFUSED, alert_key, client, text

AT_ONCE = 500
SCANNED = 1000
# For what has changed to be published and written; workers need a moment, unless a server is away.
MOST_SECONDS = 60.0

_GLOB = re.compile(r"([\\*?\[\]])")


def count(target: Target) -> dict[str, int]:
    """How much there is, by kind. Raises `redis.RedisError`."""
    return {
        "alert states in Redis": sum(1 for _ in _states(target)),
        "times in Redis": sum(len(members) for _, members in _last_seen(target)),
        "latest readings in Redis": sum(len(fields) for _, fields in _newest(target)),
        "undeliverable changes in Redis": len(_undeliverable(target)),
    }


def end_alerts(target: Target) -> int:
    """Ends the open alerts and forgets the states; returns how many devices had one.

    Users, channels and retained messages get the end like any other, and the tables have it: returns
    when all that is delivered. Raises `OperatorError` when it is not within a minute, `redis.RedisError`.
    """
    states = _states(target)
    done = 0
    try:
        while devices := list(islice(states, AT_ONCE)):
            state_store.transact(devices, _over)
            done += len(devices)
    except NotNow as error:
        raise OperatorError(f"The alerts cannot be ended now: {error}. Run the command again.") from error
    _await_delivered()
    return done


def forget(target: Target) -> int:
    """Removes the memories; returns how many there were. Raises `redis.RedisError`."""
    removed: Any = 0
    for key, members in _last_seen(target):
        removed += client().zrem(key, *members) if members else 0
    for key, fields in _newest(target):
        removed += client().hdel(key, *fields) if fields else 0
    ids = _undeliverable(target)
    removed += client().xdel(OUTBOX_REFUSED, *ids) if ids else 0
    return int(removed)


def _over(state: DeviceState) -> tuple[DeviceState, machine.Changes]:
    if state.is_blank:
        return state, ()
    _, changes = machine.rules_changed(state, RuleSet(()), int(time.time() * 1000))
    return DeviceState(state.user_id, state.device_id), changes


def _await_delivered() -> None:
    last = stream.last()
    if last is None:
        return
    deliver.wake()
    deadline = time.monotonic() + MOST_SECONDS
    waits = pauses(0.05, 1.0)
    while stream.backlog() and not (
        stream.has_delivered("database", last) and stream.has_delivered("mqtt", last)
    ):
        if time.monotonic() > deadline:
            raise OperatorError(
                "The end of the alerts is not published and written yet: `sluice status` shows which server"
                " or worker is away. Then run the command again."
            )
        time.sleep(next(waits))


def _states(target: Target) -> Iterator[tuple[str, str]]:
    if target.device_id is not None:
        if client().exists(alert_key(target.user_id, target.device_id)):
            yield target.user_id, target.device_id
        return
    prefix = len(alert_key(target.user_id, ""))
    for key in client().scan_iter(match=alert_key(_escaped(target.user_id), "*"), count=SCANNED):
        yield target.user_id, text(key)[prefix:]


def _last_seen(target: Target) -> Iterator[tuple[str, list[str]]]:
    """The members of each sorted set: devices, and keys of devices behind a NUL."""
    for domain in registry.domains():
        key = domain.qualified(LAST_SEEN)
        found: Any = client().zscan_iter(key, match=_pattern(target), count=SCANNED)
        yield (
            key,
            [member for member in (text(one) for one, _ in found) if _is(target, member.partition("\0")[0])],
        )


def _newest(target: Target) -> Iterator[tuple[str, list[str]]]:
    for domain in registry.domains():
        present = int(time.time() * 1000) // newest.SPAN_MS
        for span in range(present - newest.KEPT_SPANS, present + newest.KEPT_SPANS + 1):
            key = f"{domain.qualified(NEWEST)}:{span}"
            found: Any = client().hscan_iter(key, match=_pattern(target), count=SCANNED)
            yield key, [field for field in (text(one) for one, _ in found) if _is(target, field)]


def _undeliverable(target: Target) -> list[str]:
    """Entries that were set aside because they cannot be read; so the names are looked for in their text."""
    names = [json.dumps(name, ensure_ascii=False) for name in (target.user_id, target.device_id) if name]
    found: list[str] = []
    after = "-"
    while entries := _page(after):
        for entry_id, fields in entries:
            after = f"({text(entry_id)}"
            content = fields.get(b"entry", b"").decode(errors="replace")
            if all(name in content for name in names):
                found.append(text(entry_id))
    return found


def _page(after: str) -> Any:
    return client().xrange(OUTBOX_REFUSED, min=after, count=AT_ONCE)


def _pattern(target: Target) -> str:
    return f"{_escaped(target.user_id)}/{_escaped(target.device_id or '')}*"


def _is(target: Target, name: str) -> bool:
    return target.device_id is None or name == f"{target.user_id}/{target.device_id}"


def _escaped(name: str) -> str:
    return _GLOB.sub(r"\\\1", name)


def require() -> None:
    """Raises `OperatorError` unless Redis answers."""
    try:
        client().ping()
    except redis.RedisError as error:
        raise OperatorError(
            f"Redis does not answer: {error}. Check REDIS_URL and that the server runs."
        ) from error
