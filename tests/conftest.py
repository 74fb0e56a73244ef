"""The real servers for every test beyond the unit tests: started once, on free ports, stopped at the end."""

import json
import os
import shutil
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from compose.local import ports, preparation
from compose.local.stack import Stack
from tasks import settings as tasks_settings
from tasks.alerts import rule_cache, silence, stored_rules
from tasks.app import app
from tasks.outbox import publisher, stream
from tasks.servers import database as database_module
from tasks.servers import generation, redis_client
from tests.chaos import disks
from tests.integration import forked
from tests.records import end_offset, up_to_end

# A stack that somebody runs in this clone, and its domains, are none of the tests' business.
os.environ["SLUICE_ENV_FILE"] = os.devnull
os.environ.pop("DOMAINS", None)
# Optimising Kafka's code takes more of the processors than it saves within a run of the tests.
os.environ.setdefault("KAFKA_HEAP_OPTS", "-Xms256m -Xmx1g -XX:TieredStopAtLevel=1")

# A loaded machine is slow, and no property is about time.
settings.register_profile("sluice", deadline=None)
# For `make test-quick`.
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("sluice")

PROJECT = Path(__file__).resolve().parents[1]
# Tests may run in several processes side by side (pytest-xdist), each with a stack of its own.
RUNNER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PROCESSES = ("gateway", "bridge", "control", "worker")
STARTED = {"RUNNING", "STARTING", "BACKOFF"}
# What a test needs to run, by the last of these fixtures that it uses; tests of one kind run together.
# After each change of kind several processes start or stop, which takes longer than most tests do.
# The longest group, `place`, is not the last, so that processes side by side end at about the same time.
KINDS = ("alone", "stack", "place", "pipeline", "beat")


# A wrapper comes before pytest-xdist, which reads the groups.
@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Tests without the stack first, then those of each kind, in the order of `KINDS`, marked `stack`.

    Tests of one kind and file are one group: one process runs them all.
    """
    items.sort(key=_kind)
    for item in items:
        kind = _kind(item)
        item.add_marker(pytest.mark.xdist_group(f"{kind} {item.path.name}"))
        if kind >= 0:
            item.add_marker("stack")
    yield
    # With a version of pytest that it does not know, pytest-xdist drops the groups and says nothing.
    if "PYTEST_XDIST_WORKER" in os.environ and config.getoption("loadgroup", default=False):
        assert all("@" in item.nodeid for item in items), "pytest-xdist does not keep the groups"


def _kind(item: pytest.Item) -> int:
    fixtures = item.fixturenames if isinstance(item, pytest.Function) else []
    if "alone" in fixtures:
        return 0
    return max((number for number, kind in enumerate(KINDS) if kind in fixtures), default=-1)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Kafka, Redis, Mosquitto and TimescaleDB, migrated, with the topics and the service account.

    A server that cannot be had fails every test that asks for it, with the sentence that says why.
    """
    folder = f"test-{RUNNER}" if RUNNER else "test"
    # Two stacks that look for free ports at the same time must not find the same ones.
    ports.FREE = ports.FREE[RUNNER % 2 :: 2]
    servers = Stack(PROJECT / ".local" / folder, free_ports=True, tied=True)
    servers.down()
    disks.release(servers.layout.base)
    shutil.rmtree(servers.layout.base, ignore_errors=True)
    servers.up(())
    try:
        with pytest.MonkeyPatch.context() as patch:
            # The first preparation was by commands as a user has them; any other need not wait for imports.
            patch.setattr(preparation, "run_sluice", _forked_sluice)
            yield servers
    finally:
        servers.down()


def _forked_sluice(arguments: Sequence[str], env: Mapping[str, str], stdin: str) -> CompletedProcess[str]:
    return forked.run("ingest.cli", *arguments, env=env, cwd=PROJECT, stdin=stdin)


@pytest.fixture
def pipeline(stack: Stack, request: pytest.FixtureRequest) -> Stack:
    """The servers and all of Sluice's processes but beat, running."""
    if "beat" not in request.fixturenames and "beat" in _started(stack):
        stack.stop("beat")
    # The servers were prepared when they were started; to look again would take seconds a test.
    stack.up(PROCESSES, prepare=not stack.running())
    return stack


@pytest.fixture
def beat(pipeline: Stack) -> None:
    """The clock of the alerts, which other tests do not expect, runs beside the pipeline."""
    pipeline.up(["beat"], prepare=False)


def _started(stack: Stack) -> set[str]:
    return {status.name for status in stack.status() if status.state in STARTED}


@pytest.fixture
def alone(stack: Stack) -> None:
    """The servers run, and none of Sluice's processes: nobody does what the test wants to do itself."""
    states = {status.name: status.state for status in stack.status()}
    for name in {*PROCESSES, "notify", "beat"} & states.keys():
        if states.pop(name) in STARTED:
            stack.stop(name)
    states.pop("flower", None)
    if set(states.values()) != {"RUNNING"}:  # a test that failed may have left a server down
        stack.up((), prepare=False)


@pytest.fixture
def in_process(alone: None, on_servers: None) -> None:
    """The modules of `tasks` in this process are the only worker that there is."""


@pytest.fixture
def on_servers(stack: Stack) -> Iterator[None]:
    """The modules of `tasks` in this process work on the test's servers."""
    before = dict(os.environ)
    os.environ.update(stack.env)
    forget_servers()
    app.conf.update(broker_url=stack.env["REDIS_URL"], result_backend=stack.env["REDIS_URL"])
    try:
        yield
    finally:
        forget_servers()
        if os.environ["REDIS_URL"] != stack.env["REDIS_URL"]:
            forget_other_memories(stack)
        os.environ.clear()
        os.environ.update(before)


def forget_other_memories(stack: Stack) -> None:
    """After a test on a Redis of its own, in which alerts were rebuilt: the shared one counts again."""
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        connection.execute("UPDATE alert_delivery SET memory = NULL")


def forget_servers() -> None:
    """Makes the modules of `tasks` read their settings and connect again."""
    # Celery's own way to forget connections; the tests' process has no other that would do.
    app._after_fork()  # type: ignore[attr-defined]
    # It keeps the backend, which has the address of the first Redis that a test asked for a result.
    app._backend_cache = None  # type: ignore[attr-defined]
    app._local = threading.local()  # type: ignore[attr-defined]
    database_module.close()
    publisher.close()
    silence.close()
    if redis_client.client.cache_info().currsize:
        redis_client.client().close()
    for cached in (
        tasks_settings.settings,
        redis_client.client,
        generation.script,
        stream._script,
        rule_cache._shared,
        stored_rules._shared,
    ):
        cached.cache_clear()


@pytest.fixture
def database(stack: Stack) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection that commits each statement."""
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        yield connection


@pytest.fixture
def empty(stack: Stack) -> Iterator[str]:
    """The conninfo of a new database without anything in it."""
    name = f"empty_{uuid4().hex[:8]}"
    with psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield make_conninfo(stack.env["DATABASE_DIRECT_URL"], dbname=name)
        deadline = time.monotonic() + 60
        while not _dropped(connection, name):
            assert time.monotonic() < deadline, "the test's database is still used"
            time.sleep(0.1)


def _dropped(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> bool:
    try:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectInUse):
        # A worker of the server's own, which only a superuser may end, is at it for a moment.
        return False
    return True


class DeadLetters:
    """The dead letters from the moment at which this object was made."""

    def __init__(self, bootstrap_servers: str, topic: str = "iot-stream-dlq") -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "tests",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        numbers = self._consumer.list_topics(topic, 10).topics[topic].partitions
        self._starts = [
            TopicPartition(topic, number, end_offset(self._consumer, topic, number)) for number in numbers
        ]

    def read(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Key and envelope of each, up to the present end of the topic."""
        return [
            (record.key() or b"", json.loads(record.value() or b"{}"))
            for record in up_to_end(self._consumer, self._starts)
        ]

    def close(self) -> None:
        """Ends the consumer."""
        self._consumer.close()


@pytest.fixture
def dead_letters(stack: Stack) -> Iterator[DeadLetters]:
    """The dead letters of this test."""
    letters = DeadLetters(stack.env["KAFKA_BOOTSTRAP_SERVERS"])
    yield letters
    letters.close()
