"""This process's Redis client, and the names of the keys that several modules share.

A key that one module uses alone is named there: turns, back-off, the breaker, the trial of a suspect batch.
"""

import re
import ssl
from functools import lru_cache
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from tasks.settings import Settings, settings

COUNTERS = "sluice:counters"
ALERTS_READY = "sluice:alerts:ready"  # the run of Redis that wrote the states; in another they are lost
DATABASE_BREAKER = "sluice:breaker:database"
ALERTS_GENERATION = "sluice:alerts:generation"  # which memory of Redis they are in (tasks/servers/memory.lua)
ALERTS_REBUILDING = "sluice:alerts:rebuilding"  # lock of the worker that rebuilds them
OPEN_ALERTS = "sluice:alerts:open"  # hash: how many alerts are open, by user; kept with the states
OUTBOX = "sluice:outbox"  # stream of changes of alerts to deliver
OUTBOX_PUBLISHED = "sluice:outbox:told"  # the position published to users, as noted in the database
OUTBOX_BYTES = "sluice:outbox:bytes"  # hash: bytes in the stream by user, and under the empty name of all
OUTBOX_ADDED = "sluice:outbox:added"  # hash: entries that were added, by user
OUTBOX_WRITTEN = "sluice:outbox:written"  # hash: entries that were written to the tables, by user
OUTBOX_FAILING = "sluice:outbox:failing"  # hash: users with a change that the database does not take
OUTBOX_GIVEN_UP = "sluice:outbox:given_up"  # set: changes of this kind that are dead letters by now
OUTBOX_NOTICES = "sluice:outbox:notices"  # hash: users with a notice that the MQTT broker refuses
OUTBOX_REFUSED = "sluice:outbox:refused"  # stream of entries that could never be delivered, with the reason
RULES_VERSION = "sluice:rules:version"  # a number that changes with every change of any user's rules
# One key per domain, with -NAMESPACE after the name:
LAST_SEEN = "sluice:last_seen"  # sorted set of devices by the time of their last record, ms
LAST_SEEN_READY = "sluice:last_seen:ready"  # the run of Redis that has the last-seen times, like ALERTS_READY
NEWEST = "sluice:newest"  # hashes of the newest readings of quiet devices, one for each span of time
CLOCK = "sluice:clock"  # hash: how far the clock has judged, and when
HORIZON = "sluice:clock:horizon"  # hash: up to when everything in Kafka has been judged
# Again one key for all domains:
REJECTED_PAUSE = "sluice:rejected:pause"  # while it is there no notice about a refusal is published
DEAD_LETTER_TYPES = "sluice:dead_letters:types"  # hash: dead letters by error type
DEAD_LETTER_SHARE = "sluice:dead_letters:share_high"  # exists while the share of dead letters is high
DEAD_LETTERS_OLDEST = "sluice:dead_letters:oldest"  # by domain, when the oldest unhandled letter came
SHARE_SAMPLES = "sluice:dead_letters:samples"  # list of the counters at several times
ROOM = "sluice:room"  # written by a worker to find out whether Redis takes writes again
WORKERS = "sluice:workers"  # hash: what each worker sees of its queues, by its name
GATEWAYS = "sluice:gateways"  # hash: the status of each gateway, by its name
DEVICES_ACTIVE = "sluice:devices:active"  # stream: the activity of devices in each part of finished batches
DEVICES_PRESENCE = "sluice:devices:presence"  # stream: what last wills say, until the table has it
DEVICES_READY = (
    "sluice:devices:ready"  # the run of Redis that has had all of the activity, or that there was too much
)
DEVICES_REST = "sluice:devices:rest"  # while it is there the registry is not written
CHANNELS_QUEUED = "sluice:channels:queued"  # exists while a task that sends to the channels waits
CHANNELS_WAITING = "sluice:channels:waiting"  # how many deliveries to channels wait, and since when
ROLLUPS_COMPLETE = "sluice:rollups:complete"  # hash: when the due rollups of each domain were last all made
REPLAYS_SENT = "sluice:replays:sent"  # sorted set: replays that `web` has sent, by when, until they begin
CONTROL_ACTS = "sluice:control:acts"  # the name of the control process that acts
SESSIONS = "sluice:mqtt_sessions"  # hash: when each MQTT session was connected, by a digest of its client id


def lease_key(batch: str) -> str:
    """Exists from the sending of the batch to its end; its value is the name of the bridge that sent it."""
    return f"sluice:lease:{batch}"


def evidence_key(batch: str) -> str:
    """Hash: which stages work on the batch, and how those ended that did not finish."""
    return f"sluice:evidence:{batch}"


def part_key(batch: str, part: int) -> str:
    """The part's messages, as the bridge packed them."""
    return f"sluice:part:{batch}:{part}"


def rows_key(batch: str, part: int) -> str:
    """The part's rows, from `process` to `store`."""
    return f"sluice:rows:{batch}:{part}"


def activity_key(batch: str, part: int) -> str:
    """The activity of devices in the part, from `process` to the end of the batch."""
    return f"sluice:activity:{batch}:{part}"


def done_key(bridge: str) -> str:
    """List of the reports to a bridge: batches that are done, or given up."""
    return f"sluice:done:{bridge}"


def refused_key(topic: str, partition: int) -> str:
    """Sorted set of the offsets in a Kafka topic's partition that became dead letters lately."""
    return f"sluice:refused:{topic}:{partition}"


def handled_key(topic: str, day: int) -> str:
    """Hash: by partition of a topic of dead letters, the offset below which all are handled on that day."""
    return f"sluice:dead_letters:handled:{topic}:{day}"


def answers_key(control: str) -> str:
    """List of the answers to the requests of a control process."""
    return f"sluice:answers:{control}"


def request_key(request: str) -> str:
    """Exists while a control process waits for the answer to the request."""
    return f"sluice:request:{request}"


def answered_key(request: str) -> str:
    """The answer to a request that was answered lately."""
    return f"sluice:answered:{request}"


def claimed_key(entry: str) -> str:
    """Exists for most of a period after a beat has sent, or tried to send, this entry of the schedule."""
    return f"sluice:claimed:{entry}"


def scheduled_key(task: str) -> str:
    """Exists while a task that beat sent waits for a worker."""
    return f"sluice:scheduled:{task}"


def received_key(message: str) -> str:
    """The id and time of an MQTT message at its first delivery, in case it is redelivered."""
    return f"sluice:received:{message}"


def text(value: bytes | str) -> str:
    """A reply of Redis as text."""
    return value.decode() if isinstance(value, bytes) else value


def alert_key(user_id: str, device_id: str) -> str:
    """The state of the device's alerts."""
    return f"sluice:alert:{user_id}/{device_id}"


def tls_options(chosen: Settings) -> dict[str, Any]:
    """The options of a connection besides the URL: empty, or how the server is verified."""
    if not chosen.redis_url.get_secret_value().startswith(("rediss://", "rediss+")):
        return {}
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        **({"ssl_ca_certs": str(chosen.tls_ca_file)} if chosen.tls_ca_file else {}),
    }


# The run of the server that this process connected to last.
_run = b""


def server_run() -> bytes:
    """Identifies this run of the Redis server; it changes with every restart and every failover.

    The server may then have an old copy of its memory: data that must not be old is marked with the run that
    it belongs to. Call it after a command, whose connection has read it; it costs no command itself.
    """
    return _run


def _greet(connection: redis.Connection) -> None:
    global _run  # noqa: PLW0603 - one server, one run, whatever connection hears of it
    connection.on_connect()  # type: ignore[no-untyped-call]
    found = []
    # A server that is the primary again has the run that it had, and another replication id.
    for section, name in (("server", "run_id"), ("replication", "master_replid")):
        connection.send_command("INFO", section)  # type: ignore[no-untyped-call]
        reply = connection.read_response()
        said = reply if isinstance(reply, bytes) else str(reply).encode()
        found.append(re.search(rb"%b:(\w+)" % name.encode(), said))
    _run = b"/".join(one[1] if one else b"unnamed" for one in found)


@lru_cache
def client() -> redis.Redis:
    """A pooled client that is safe to use after a fork.

    A command that meets a broken connection is tried twice more within a second, then raises
    `redis.RedisError`. With Sentinels each new connection goes to the master of that moment.
    """
    chosen = settings()
    return connect(
        chosen,
        socket_timeout=chosen.redis_timeout_seconds,
        socket_connect_timeout=chosen.redis_timeout_seconds,
        socket_keepalive=True,
        health_check_interval=10,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), 2),
        redis_connect_func=_greet,
    )


def leave_old_master() -> None:
    """Breaks this process's connections to a server that is the master no more, where there are Sentinels."""
    if settings().redis_sentinels() is not None:
        from tasks.servers import redis_sentinel  # noqa: PLC0415 - few sites have Sentinels

        redis_sentinel.leave_others(client())


def connect(chosen: Settings, **options: Any) -> redis.Redis:
    """A client of the Redis that the settings name, with these options of redis-py for its connections."""
    if chosen.redis_sentinels() is not None:
        from tasks.servers import redis_sentinel  # noqa: PLC0415 - few sites have Sentinels

        return redis_sentinel.connect(chosen, **options, **tls_options(chosen))
    return redis.Redis.from_url(chosen.redis_url.get_secret_value(), **options, **tls_options(chosen))
