"""The local stack's promises, on a stack of its own: killed is started again, stopped is gone, data stays."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from compose.local import orphans, servers
from compose.local.errors import PortTakenError, StackError
from compose.local.stack import Stack
from tests.integration.fleet import wait_until

NAMES = [server.name for server in servers.SERVERS]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Bare servers in a folder too deep for a Unix socket."""
    own = Stack(tmp_path_factory.mktemp("deep") / ("x" * 100), free_ports=True, tied=True)
    own.up((), prepare=False)
    try:
        yield own
    finally:
        own.clean()


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_server_is_started_again(own: Stack, name: str) -> None:
    """Soon after a SIGKILL another process is in the pid file, and it gets ready."""
    own.start(name)
    killed = own.pid(name)
    before = own.restarts().get(name, 0)

    os.kill(killed, signal.SIGKILL)

    wait_until(lambda: _pid(own, name) not in {None, killed}, 60, f"{name} to be started again")
    own.start(name)
    # PostgreSQL may need a second start, while a child of the killed one still holds its memory.
    assert own.restarts()[name] >= before + 1


def _pid(own: Stack, name: str) -> int | None:
    try:
        return own.pid(name)
    except StackError:
        return None


def test_data_outlives_a_stop_and_nothing_else_does(own: Stack) -> None:
    """After `down` no process is left; after the next `up` the rows are there again, and an empty Redis."""
    own.up((), prepare=False)
    with psycopg.connect(own.env["DATABASE_DIRECT_URL"], autocommit=True) as database:
        database.execute("CREATE TABLE kept AS SELECT 17 AS number")
    with redis.Redis.from_url(own.env["REDIS_URL"]) as client:
        client.set("kept", 17)

    assert own.down()
    assert orphans.find(own.layout) == {}
    assert list(own.layout.run.iterdir()) == []
    own.up((), prepare=False)

    with psycopg.connect(own.env["DATABASE_DIRECT_URL"]) as database:
        assert database.execute("SELECT number FROM kept").fetchone() == (17,)
    with redis.Redis.from_url(own.env["REDIS_URL"]) as client:
        assert client.get("kept") is None


def test_a_killed_supervisor_leaves_nothing_that_the_next_start_does_not_clear(own: Stack) -> None:
    """Without their supervisor the servers end by themselves, and `up` goes on from what is there."""
    own.up((), prepare=False)
    os.kill(int(own.layout.supervisor_pid.read_text()), signal.SIGKILL)

    own.up((), prepare=False)

    assert {status.name for status in own.status() if status.state == "RUNNING"} == set(NAMES)
    with psycopg.connect(own.env["DATABASE_DIRECT_URL"]) as database:
        assert database.execute("SELECT 1").fetchone() == (1,)


def test_a_taken_port_stops_the_start_and_starts_nothing(own: Stack, tmp_path: Path) -> None:
    """A second stack on the ports of the first names them with their variables, and runs nothing."""
    own.up((), prepare=False)
    wanted = {variable: value for variable, value in own.env.items() if variable.endswith("_PORT")}
    second = Stack(tmp_path / "second", environ=wanted)

    with pytest.raises(PortTakenError, match=f"port {wanted['KAFKA_PORT']}.*set KAFKA_PORT"):
        second.up((), prepare=False)

    assert not second.running()
    assert orphans.find(second.layout) == {}
