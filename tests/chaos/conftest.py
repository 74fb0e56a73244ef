"""What the chaos tests run on: all of Sluice's processes, with networks that can stall, under load."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from rich.console import Console

from compose.local import envfile
from compose.local.stack import Stack
from tests.chaos import options, table
from tests.chaos.judge import Judge, Verdict
from tests.chaos.load import Listener, Load
from tests.chaos.place import Place
from tests.chaos.proxy import Proxy
from tests.conftest import PROCESSES

# On demand only, by `make ha`: three brokers more, clocks and disks that need root, everything twice.
collect_ignore = [
    file
    for file, names in {
        "test_kafka_failovers.py": ["kafka"],
        "test_troubles.py": ["redis-troubles", "kafka-troubles", "postgres-troubles"],
        "test_pairs.py": ["pairs"],
    }.items()
    if not any(map(options.failovers, names))
]

VERDICTS: list[Verdict] = []
BEGAN = time.monotonic()
# By the name of the fault's victim, the variable that tells the processes where it is.
NETWORKS = {"redis": "REDIS_URL", "postgres": "DATABASE_URL"}


@pytest.fixture(scope="module")
def place(stack: Stack) -> Iterator[Place]:
    """All processes, beat too, which reach Redis and PostgreSQL through a proxy each."""
    before = stack.env
    networks = {name: Proxy(urlsplit(before[variable]).port or 0) for name, variable in NETWORKS.items()}
    through = {
        variable: _through(before[variable], networks[name].port) for name, variable in NETWORKS.items()
    }
    # To the stack these are the same servers of its own.
    marks = [before[envfile.OWN], *map(envfile.fingerprint, through.values())]
    _stop_processes(stack)
    envfile.write(stack.layout.env, {**before, **through, envfile.OWN: ",".join(marks)})
    try:
        stack.up((*PROCESSES, "beat"))
        yield Place(stack, networks, before["REDIS_URL"], before["DATABASE_DIRECT_URL"])
    finally:
        _stop_processes(stack)
        envfile.write(stack.layout.env, before)
        for network in networks.values():
            network.close()


@pytest.fixture(scope="module")
def judge(place: Place) -> Iterator[Judge]:
    """Judges the load, which publishes from now on; at the end everything is judged again, as a whole."""
    load = Load(place.stack, f"chaos-{uuid4().hex[:6]}", options.SEED)
    listeners = {user: Listener(place.stack, user) for user in load.users}
    judge = Judge(place, load, listeners)
    load.start()
    try:
        load.await_tick(10)
        judge.await_normal()
        yield judge
    finally:
        load.stop()
        # Or the MQTT broker keeps the last messages for whichever test starts the gateway next.
        judge.come_to_rest()
        judge.close()
        for listener in listeners.values():
            listener.close()


@pytest.fixture
def verdict(request: pytest.FixtureRequest) -> Iterator[Verdict]:
    """A line of the table; written at once, so that a run that is broken off keeps what it has found."""
    name = request.node.callspec.id if hasattr(request.node, "callspec") else "all of them"
    line = Verdict(name, request.path.stem)
    VERDICTS.append(line)
    yield line
    table.write(VERDICTS, options.SEED, time.monotonic() - BEGAN)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, below what pytest says."""
    if not VERDICTS:
        return
    path = table.write(VERDICTS, options.SEED, time.monotonic() - BEGAN)
    terminalreporter.section("chaos")
    console = Console(width=170)
    console.print(table.table(VERDICTS, options.SEED))
    console.print(f"Again in the same order: make chaos SEED={options.SEED}; figures: {path}")


def _stop_processes(stack: Stack) -> None:
    for name in (*PROCESSES, "beat"):
        stack.stop(name)


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{port}"))
