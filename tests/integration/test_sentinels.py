"""A Redis of three machines with Sentinels: whoever loses the master finds the next one within seconds."""

import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
import redis
from celery import Celery
from celery.app.backends import BACKEND_ALIASES
from kombu import Connection
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from compose.local import root_filesystem
from compose.local.console import Report
from tasks.app import app as sluice
from tasks.servers import celery_broker, redis_client, redis_sentinel
from tasks.settings import Settings
from tests.integration.fleet import wait_until
from tests.integration.redis_group import RedisGroup, redis_group

# A failover takes five seconds on a machine that is not busy.
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisGroup]:
    """Three machines, whole at the beginning of each test."""
    root_filesystem.ensure(Report())
    with redis_group(tmp_path_factory.mktemp("group")) as made:
        yield made


@pytest.fixture
def chosen(group: RedisGroup) -> Settings:
    """The settings by which Sluice finds the master."""
    group.await_whole()
    return Settings(
        _env_file=None,
        **{name.lower(): value for name, value in group.settings.items()},  # type: ignore[arg-type]
    )


def writes(client: redis.Redis) -> bool:
    """Whether Redis takes a write; whatever it raises must mean that it is away."""
    try:
        return bool(client.set("written", uuid4().hex))
    except (redis.ConnectionError, redis.TimeoutError):
        return False


def test_a_client_finds_the_next_master(group: RedisGroup, chosen: Settings) -> None:
    """One connection after the other; the server that is gone comes back as a replica."""
    client = redis_client.connect(chosen, socket_timeout=1, socket_connect_timeout=1)
    old = group.await_master()
    assert writes(client)
    old.kill()
    try:
        assert not writes(client)
        wait_until(lambda: writes(client), PATIENCE_SECONDS, "a master that takes writes")
        assert group.await_master(other_than=old) is not old
    finally:
        old.start()
    client.close()


def test_a_command_that_finds_no_answer_is_repeated_at_the_next_master(
    group: RedisGroup, chosen: Settings
) -> None:
    """The machine stays away: one answer is awaited in vain, and not one more for each repetition."""
    seconds = 15
    client = redis_client.connect(
        chosen, socket_timeout=seconds, retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), 2)
    )
    assert client.set("written", 1)
    old = group.await_master()
    old.cut_off()
    try:
        assert client.set("written", 2)
    finally:
        old.reconnect()
    client.close()


def test_a_master_that_was_replaced_means_that_redis_is_away(group: RedisGroup, chosen: Settings) -> None:
    """It resumes with all its connections; its answers are not refusals of the data.

    While another server still follows it, it takes writes, which are lost: see docs/failures.md.
    """
    client = redis_client.connect(chosen, socket_timeout=30, socket_connect_timeout=30)
    assert writes(client)
    old = group.await_master()
    old.hang()
    new = group.await_master(other_than=old)
    old.resume()
    with group.client(new) as asked:

        def arrives() -> bool:
            word = uuid4().hex
            try:
                return bool(client.set("written", word)) and asked.get("written") == word.encode()
            except (redis.ConnectionError, redis.TimeoutError):
                return False

        wait_until(arrives, PATIENCE_SECONDS, "the client to write to the new master")
    client.close()


def test_a_master_without_replicas_means_that_redis_is_away(group: RedisGroup, chosen: Settings) -> None:
    """Another may be the master: nothing was written, and the next command asks the Sentinels again."""
    client = redis_client.connect(chosen, socket_timeout=5, socket_connect_timeout=5)
    others = [machine for machine in group.machines if machine is not group.await_master()]
    for machine in others:
        machine.server.kill()
    try:
        with pytest.raises(redis_sentinel.NotTheMaster, match="NOREPLICAS"):
            client.set("written", 1)
        pipeline = client.pipeline(transaction=True)
        pipeline.set("written", 1)
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()
        with pytest.raises(redis.ConnectionError):
            client.eval("return redis.call('SET', KEYS[1], 1)", 1, "written")
    finally:
        for machine in others:
            machine.server.start()
    wait_until(lambda: writes(client), PATIENCE_SECONDS, "replicas to follow")
    client.close()


def test_a_thread_that_waits_for_a_machine_that_hangs_is_woken(group: RedisGroup, chosen: Settings) -> None:
    """As Celery does, which waits for tasks without a timeout."""
    waiting = redis_client.connect(chosen, socket_timeout=None)
    asking = redis_client.connect(chosen, socket_timeout=1, socket_connect_timeout=1)
    assert writes(asking)
    old = group.await_master()

    def wait() -> None:
        with pytest.raises(redis.ConnectionError):
            waiting.blpop([uuid4().hex])

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    with group.client(old) as asked:
        wait_until(lambda: asked.info("clients")["blocked_clients"] == 1, 30, "somebody to wait")
    old.hang()
    try:
        wait_until(lambda: writes(asking), PATIENCE_SECONDS, "a master that takes writes")
        assert thread.is_alive()
        redis_sentinel.leave_others(asking)
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    finally:
        old.resume()
    asking.close()
    waiting.close()


def test_a_replica_is_never_taken_for_the_master(
    group: RedisGroup, chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Sentinel that has not heard of the failover may name one."""
    client = redis_client.connect(chosen, socket_timeout=5, socket_connect_timeout=5)
    replica = next(machine for machine in group.machines if machine is not group.await_master())
    with group.client(replica) as asked:
        port = int(asked.connection_pool.connection_kwargs["port"])
    manager = client.connection_pool.sentinel_manager  # type: ignore[attr-defined]
    monkeypatch.setattr(manager, "discover_master", lambda _: (replica.address, port))
    with pytest.raises(redis_sentinel.NotTheMaster, match="is a replica"):
        client.get("written")
    client.close()


# Celery's own command.
@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_celery_sends_and_stores_by_the_master_of_the_moment(group: RedisGroup, chosen: Settings) -> None:
    """Its broker, and the backend in which the parts of a chord meet, before and after a failover."""
    assert sluice.conf.broker_url  # the aliases are registered by that module
    assert "sentinel_transport" in BACKEND_ALIASES["sentinel"]
    app = Celery(broker=celery_broker.url(chosen), backend=celery_broker.redis_url(chosen))
    app.conf.update(
        broker_transport_options=celery_broker.transport_options(chosen),
        result_backend_transport_options=celery_broker.redis_sockets(chosen),
    )
    _round_trip(app, group)
    before = group.await_master()
    group.fail_over()
    group.await_master(other_than=before)
    _round_trip(app, group)
    app.close()


def _round_trip(app: Celery, group: RedisGroup) -> None:
    name, deadline = uuid4().hex, time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with app.connection_for_write() as connection:
                assert isinstance(connection, Connection)
                with connection.SimpleQueue(name) as queue:
                    queue.put({"it": "arrives"})
                    assert queue.get(timeout=5).payload == {"it": "arrives"}
            app.backend.store_result(name, "stored", "SUCCESS")
            break
        except redis.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    with group.client(group.await_master()) as asked:
        assert b"stored" in (asked.get(f"celery-task-meta-{name}") or b"")
