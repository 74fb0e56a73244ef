"""PostgreSQL on two machines, one the other's synchronous standby, that a test may kill, hang and cut off.

A machine is an address of the loopback network. Each server is reached through a proxy, by the other too, so
that a machine can be cut off. The configuration is that which docs/deploy.md asks for; what an operator, or
Patroni, does there is done here by `promote`, `go_on_alone` and `join`.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from compose.local import ports, preparation, root_filesystem, servers
from compose.local.envfile import write_private
from compose.local.layout import Layout
from compose.local.passwords import password
from compose.local.servers import POSTGRES
from tests.chaos.proxy import Proxy
from tests.integration import machines
from tests.integration.fleet import wait_until
from tests.integration.machines import Process

COUNT = 2
READY_SECONDS = 60
# A hung or cut off server is noticed by Sluice after these and five seconds more.
STATEMENT_SECONDS, CONNECT_SECONDS = 10, 2
# Of a machine that gets into trouble.
DISK_BYTES = 1536 * 2**20
SECRETS = ("postgres", "postgres-superuser", "replica")

CONFIGURATION = """
# 127.0.0.1 is for the first preparation; all else comes through the machine's own address.
listen_addresses = '127.0.0.1,{address}'
port = {inside}
shared_buffers = 128MB
wal_level = replica
max_wal_senders = 10
hot_standby = on
synchronous_commit = on
"""
ACCESS = """
host all all 127.0.0.0/8 scram-sha-256
host replication replica 127.0.0.0/8 scram-sha-256
"""
COPY = (
    "PGPASSFILE=/srv/conf/passwords /usr/lib/postgresql/17/bin/pg_basebackup -D /srv/data --no-sync"
    " --checkpoint=fast --wal-method=stream --write-recovery-conf -d '{source}'"
)


@dataclass
class Machine(machines.Machine):
    """One address with a server."""

    address: str
    port: int
    inside: int

    def stop(self) -> None:
        """The server ends in order, its standby having all."""
        for process in self.processes:
            process.stop(signal.SIGINT)

    def superuser(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection past the proxy."""
        return psycopg.connect(
            host=self.address,
            port=self.inside,
            user="postgres",
            password=password(self.layout, "postgres-superuser"),
            dbname=database,
            autocommit=True,
            connect_timeout=3,
        )


class PostgresPair:
    """The machines; the first is the primary at first. An operator knows which is it: `primary`."""

    def __init__(self, folder: Path, *, troubles: bool = False) -> None:
        free = list(ports.free({}).values())
        port = free[0]
        self.machines: list[Machine] = []
        for number, inside in enumerate(free[1 : 1 + COUNT], 1):
            layout = Layout(folder / f"postgres{number}")
            layout.make()
            for name in SECRETS:
                secret = password(self.machines[0].layout if self.machines else layout, name)
                write_private(layout.secret(name), secret)
            address = f"127.0.1.{number}"
            machine = Machine(
                address,
                port,
                inside,
                layout=layout,
                processes=[Process(POSTGRES, layout)],
                to=[Proxy(inside, address, port)],
            )
            self.machines.append(machine)
            servers.configure(POSTGRES, layout, {"POSTGRES_PORT": inside})
            self._configure(machine)
            if troubles:
                machine.prepare_troubles(DISK_BYTES)
        self.primary, self.standby = self.machines
        self.password = password(self.primary.layout, "postgres")

    @property
    def settings(self) -> dict[str, str]:
        """The settings by which Sluice finds the primary."""
        places = ",".join(f"{machine.address}:{machine.port}" for machine in self.machines)
        url = f"postgresql://sluice:{self.password}@{places}/sluice?target_session_attrs=read-write"
        return {
            "DATABASE_URL": url,
            "DATABASE_DIRECT_URL": url,
            "DATABASE_STATEMENT_TIMEOUT_SECONDS": str(STATEMENT_SECONDS),
            "DATABASE_CONNECT_TIMEOUT_SECONDS": str(CONNECT_SECONDS),
        }

    def url(self, machine: Machine) -> str:
        """The database of one machine, past its proxy."""
        return make_conninfo(
            host=machine.address,
            port=machine.inside,
            user="sluice",
            password=self.password,
            dbname="sluice",
            connect_timeout=3,
        )

    def start(self) -> None:
        """Makes both servers, with the database `sluice`, and returns when one follows the other."""
        layout = self.primary.layout
        servers.initialise(POSTGRES, layout)
        self.primary.start()
        inside = {"POSTGRES_PORT": str(self.primary.inside)}
        wait_until(lambda: not preparation.database(layout, inside), READY_SECONDS, "the primary")
        secret = password(layout, "replica")
        with self.primary.superuser() as server:
            server.execute(f"CREATE ROLE replica LOGIN REPLICATION PASSWORD '{secret}'")
        self.join()

    def close(self) -> None:
        """Kills both."""
        for machine in self.machines:
            machine.resume()
            machine.kill()
            _forget_memory(machine)
            machine.close()

    def promote(self) -> None:
        """The standby becomes the primary, and awaits no standby. The old one is not told."""
        self.primary, self.standby = self.standby, self.primary
        # First: or writes begin, and wait for a standby.
        self.go_on_alone()
        with self.primary.superuser() as server:
            assert server.execute("SELECT pg_promote()").fetchone() == (True,)

    def go_on_alone(self) -> None:
        """The primary awaits no standby any more; the lost one may not be promoted until it has joined."""
        with self.primary.superuser() as server:
            server.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            server.execute("SELECT pg_reload_conf()")

    def join(self) -> None:
        """The other machine is made anew from the primary; from then on a commit waits for it."""
        machine, layout = self.standby, self.standby.layout
        machine.kill()
        _forget_memory(machine)
        data = layout.data(POSTGRES.name)
        root_filesystem.remove_tree(data)
        data.mkdir(mode=0o700)
        source = make_conninfo(
            host=self.primary.address, port=self.primary.port, user="replica", application_name="standby"
        )
        copied = subprocess.run(
            servers.enclosed(POSTGRES, layout, data, COPY.format(source=source)),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert copied.returncode == 0, copied.stderr
        machine.start()
        wait_until(lambda: self._follows("streaming"), READY_SECONDS, "the standby to follow")
        with self.primary.superuser() as server:
            server.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            server.execute("SELECT pg_reload_conf()")
        self.await_whole()

    def await_whole(self) -> None:
        """Returns when a commit waits for the standby, and the standby confirms it."""
        wait_until(lambda: self._follows("streaming", "sync"), READY_SECONDS, "a synchronous standby")

    def _follows(self, state: str, sync: str | None = None) -> bool:
        with suppress(psycopg.OperationalError), self.primary.superuser() as server:
            found = server.execute("SELECT state, sync_state FROM pg_stat_replication").fetchall()
            return any(one == state and sync in {None, two} for one, two in found)
        return False

    def _configure(self, machine: Machine) -> None:
        layout = machine.layout
        folder = layout.conf(POSTGRES.name)
        own = CONFIGURATION.format(address=machine.address, inside=machine.inside)
        for name, more in (("postgresql.conf", own), ("pg_hba.conf", ACCESS)):
            write_private(folder / name, (folder / name).read_text() + more)
        write_private(folder / "passwords", f"*:*:*:replica:{password(layout, 'replica')}\n")


def _forget_memory(machine: Machine) -> None:
    """Removes the piece of shared memory that a killed server leaves behind, named in its pid file."""
    with suppress(FileNotFoundError, IndexError):
        pid_file = machine.layout.data(POSTGRES.name) / "postmaster.pid"
        number = pid_file.read_text().splitlines()[6].split()[1]
        subprocess.run(["ipcrm", "--shmem-id", number], capture_output=True, check=False)


@contextmanager
def postgres_pair(folder: Path, *, troubles: bool = False) -> Iterator[PostgresPair]:
    """A pair that runs, and is killed at the end."""
    pair = PostgresPair(folder, troubles=troubles)
    try:
        pair.start()
        yield pair
    finally:
        pair.close()
