"""Redis servers of a test's own, which it may kill, restart from a snapshot, replicate and promote."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from compose.local import ports, servers
from compose.local.envfile import write_private
from compose.local.layout import Layout
from compose.local.passwords import password
from tasks.app import app
from tests.conftest import forget_servers
from tests.integration.fleet import wait_until


@dataclass
class OwnRedis:
    """One server, with its folder; its snapshot outlives a kill."""

    layout: Layout
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, with its password."""
        return f"redis://:{password(self.layout, 'redis')}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        script = self.layout.conf("redis") / "start.sh"
        script.write_text(servers.script(servers.REDIS, self.layout))
        with self.layout.log("redis").open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", str(script)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        wait_until(self._answers, 30, "Redis to answer")

    def kill(self) -> None:
        """Ends it by SIGKILL: what is not in its snapshot is gone."""
        assert self.process is not None
        os.kill(int(self.layout.pid("redis").read_text()), signal.SIGKILL)
        self.process.wait(20)
        self.process = None

    def save(self) -> None:
        """Writes the snapshot with which it would start again."""
        with self.client() as own:
            wait_until(lambda: not own.info("persistence")["rdb_bgsave_in_progress"], 30, "another snapshot")
            own.save()

    def client(self) -> redis.Redis:
        """A client of the test's."""
        return redis.Redis.from_url(self.url)

    def replicate(self, primary: "OwnRedis") -> None:
        """Becomes a replica, and has everything that the primary had when this was called."""
        with self.client() as own, primary.client() as other:
            own.config_set("masterauth", password(self.layout, "redis"))
            own.replicaof("127.0.0.1", str(primary.port))
            wait_until(lambda: own.info("replication")["master_link_status"] == "up", 30, "the replica")
            assert other.wait(1, 30_000) == 1

    def promote(self) -> None:
        """Becomes a primary: what its primary gets from now on is none of its business."""
        with self.client() as own:
            own.replicaof("NO", "ONE")

    def move(self, port: int) -> None:
        """Listens on another port, where another server was before."""
        with self.client() as own:
            own.config_set("port", port)
        self.port = port

    def _answers(self) -> bool:
        try:
            with self.client() as asked:
                return bool(asked.ping())
        except redis.ConnectionError:
            return False


def work_on(server: OwnRedis) -> None:
    """The modules of `tasks` in this process work on this server from now on."""
    os.environ["REDIS_URL"] = server.url
    forget_servers()
    app.conf.update(broker_url=server.url, result_backend=server.url)


@contextmanager
def own_redis(folder: Path, count: int = 1) -> Iterator[list[OwnRedis]]:
    """Servers with the configuration of the local stack, started, and killed at the end."""
    made: list[OwnRedis] = []
    try:
        for number in range(count):
            layout = Layout(folder / f"redis{number}")
            layout.make()
            if made:
                # One password for all: where one server was, another one takes over.
                write_private(layout.secret("redis"), password(made[0].layout, "redis"))
            numbers = ports.free({})
            servers.configure(servers.REDIS, layout, numbers)
            servers.initialise(servers.REDIS, layout)
            server = OwnRedis(layout, numbers["REDIS_PORT"])
            made.append(server)
            server.start()
        yield made
    finally:
        for server in made:
            if server.process is not None:
                server.kill()
