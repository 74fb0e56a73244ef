"""One local stack: servers and Sluice's processes, started and stopped in the order that they need."""

import fcntl
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from compose.local import (
    client_scripts,
    envfile,
    environment,
    orphans,
    ports,
    preparation,
    probes,
    procfile,
    root_filesystem,
    servers,
)
from compose.local.console import Report
from compose.local.errors import NotReadyError, StackError
from compose.local.layout import PROCFILE, Layout
from compose.local.passwords import password
from compose.local.programs import MOSQUITTO_AUTH, programs
from compose.local.supervise import ProgramStatus, Supervisor

_READY_SECONDS = 180
# A program that has been started this often and is not ready yet will not come up by itself.
_STARTS = 5
# A server of the user's own runs already, or is not where its variable says.
_THEIRS_SECONDS = 15
_THEIRS = "not under this supervisor"
# Longer than any program's own grace, after which supervisord kills it.
_STOP_SECONDS = 90
_LOG_LINES = 15

_STARTED = {"STARTING", "RUNNING", "BACKOFF", "STOPPING"}

_PROCESS_PORTS = {
    "flower": ["FLOWER_PORT"],
    "worker": ["METRICS_PORT"],
    "notify": ["NOTIFY_METRICS_PORT"],
    "gateway": ["GATEWAY_METRICS_PORT"],
    "bridge": ["BRIDGE_METRICS_PORT"],
    "control": ["CONTROL_METRICS_PORT"],
    "beat": ["BEAT_METRICS_PORT"],
    "web": ["WEB_PORT", "WEB_METRICS_PORT"],
}


class Stack:
    """The stack in one folder.

    `environ` is where ports, servers of the user's own and further settings come from; without it the
    stack starts all servers itself. `settings` are more lines for the env file. A `tied` stack
    ends when the thread that called `up` ends, however it ends. All methods raise `StackError`.
    """

    def __init__(
        self,
        directory: Path,
        free_ports: bool = False,
        *,
        environ: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        tied: bool = False,
        report: Report | None = None,
    ) -> None:
        self.layout = Layout(directory.resolve())
        self._free_ports = free_ports
        self._environ = dict(environ or {})
        self._settings = dict(settings or {})
        self._tied = tied
        self._report = report or Report()
        self._supervisor = Supervisor(self.layout)

    @property
    def env(self) -> dict[str, str]:
        """The values of the env file."""
        return envfile.read(self.layout.env)

    def up(self, processes: Iterable[str] | None = None, *, prepare: bool = True) -> None:
        """Starts the servers, prepares them, starts the processes (all of the Procfile by default), and
        returns when all are ready; what runs already is left alone.

        Without `prepare` the servers stay as they come: no schema, no account, no topics. If anything
        fails, whatever this call started is stopped again.
        """
        listed = procfile.read(PROCFILE)
        wanted = list(listed) if processes is None else list(processes)
        if unknown := set(wanted) - set(listed):
            raise StackError(f"the Procfile has no {', '.join(sorted(unknown))}")
        root_filesystem.ensure(self._report)
        with self._locked():
            client_scripts.write(self.layout)
            fresh = not self._supervisor.running()
            env = self._begin() if fresh else self.env
            running = set() if fresh else self._running()
            self._check_ports(env, wanted, running)
            try:
                self._supervise(env, listed, fresh=fresh)
                self._start_servers(env)
                if prepare:
                    self._prepare(env)
                self._start_processes(wanted)
            except BaseException:
                with self._report.working("Stopping what was started"):
                    if fresh:
                        self._end()
                    else:
                        self._supervisor.stop_programs(self._running() - running, _STOP_SECONDS)
                raise

    def down(self) -> bool:
        """Stops the processes, then the servers, each gently; returns whether anything ran. Data stays."""
        if not self.layout.base.exists():
            return False
        with self._locked():
            return self._end()

    def clean(self) -> bool:
        """Stops the stack and removes all that it put into its folder; returns whether there was anything."""
        self.down()
        found = [path for path in self.layout.contents() if path.exists()]
        for path in found:
            if path.is_dir():
                root_filesystem.remove_tree(path)
            else:
                path.unlink()
        return bool(found)

    def running(self) -> bool:
        """Whether the stack is up, in whole or in part."""
        return self._supervisor.running()

    def status(self) -> list[ProgramStatus]:
        """The programs under the supervisor, none if it is down."""
        return self._supervisor.status() if self.running() else []

    def pid(self, name: str) -> int:
        """The process id of a running server or process."""
        try:
            return int(self.layout.pid(name).read_text())
        except (FileNotFoundError, ValueError) as error:
            raise StackError(f"{name} is not running") from error

    def log(self, name: str) -> str:
        """The last lines that the server or process logged."""
        path = self.layout.log(name)
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, name: str) -> None:
        """Starts one server or process and returns when it is ready."""
        self._supervisor.start_program(name)
        self._wait(name)

    def stop(self, name: str) -> None:
        """Stops one server or process gently; it stays stopped until `start` or `up`."""
        self._supervisor.stop_programs([name], _STOP_SECONDS)

    def restart(self, name: str) -> None:
        """Stops and starts one server or process."""
        self.stop(name)
        self.start(name)

    def restarts(self) -> dict[str, int]:
        """How often each program ended by itself, and was started again, since the stack is up."""
        counts: dict[str, int] = {}
        for line in self.log("supervisord").splitlines():
            if "supervisord started with pid" in line:
                counts = {}
            if found := re.search(r" exited: (\S+) \(", line):
                counts[found[1]] = counts.get(found[1], 0) + 1
        return counts

    def _begin(self) -> dict[str, str]:
        self.layout.make()
        for pid, name in orphans.end(self.layout).items():
            self._report.line(f"Ended {name} (process {pid}), left over from a killed stack")
        for path in (*self.layout.run.glob("*.pid"), self.layout.data("postgres") / "postmaster.pid"):
            # Nothing of the stack runs any more; after a reboot these ids may be those of other programs.
            path.unlink(missing_ok=True)
        return {**environment.make(self.layout, self._environ, free_ports=self._free_ports), **self._settings}

    def _check_ports(self, env: Mapping[str, str], wanted: Iterable[str], running: set[str]) -> None:
        needed = [p for s in environment.own_servers(env) if s.name not in running for p in s.ports]
        # A stack that an earlier version started knows no port of a process that came later.
        needed += [
            port for n in wanted if n not in running for port in _PROCESS_PORTS.get(n, []) if port in env
        ]
        ports.require_free(environment.port_numbers(env), needed)

    def _supervise(self, env: Mapping[str, str], listed: Mapping[str, str], *, fresh: bool) -> None:
        own = environment.own_servers(env)
        if fresh:
            envfile.write(self.layout.env, env)
            for server in own:
                servers.configure(server, self.layout, environment.port_numbers(env))
                if not self.layout.data(server.name).exists():
                    with self._report.working(f"Creating the data folder of {server.title}"):
                        servers.initialise(server, self.layout)
        chosen = programs(self.layout, own, listed)
        if fresh:
            environ = {**preparation.process_environment({}), servers.MARK: str(self.layout.base)}
            self._supervisor.start(chosen, environ, tied=self._tied)
        else:
            self._supervisor.write(chosen)
            self._supervisor.reload()

    def _start_servers(self, env: Mapping[str, str]) -> None:
        own = environment.own_servers(env)
        for server in own:
            self._supervisor.start_program(server.name)
        for server in servers.SERVERS:
            if server is servers.PGBOUNCER and server not in own:
                continue  # the user's database is waited for by its own name
            with self._report.working(f"Waiting for {server.title}"):
                if server is servers.POSTGRES and server in own:
                    self._wait(server.name, lambda values: preparation.database(self.layout, values))
                self._wait(server.name)

    def _prepare(self, env: dict[str, str]) -> None:
        with self._report.working("Bringing the database schema up to date"):
            preparation.migrate(env)
        if servers.MOSQUITTO in environment.own_servers(env):
            self._supervisor.start_program(MOSQUITTO_AUTH)
            if probes.mosquitto_admits(env):
                with self._report.working("Creating Sluice's MQTT account"):
                    env["MQTT_USERNAME"] = preparation.service_account(
                        env, servers.SERVICE, password(self.layout, "mqtt")
                    )
                    envfile.write(self.layout.env, env)
            with self._report.working("Giving accounts their rights"):
                preparation.rights(env)
        with self._report.working("Logging in to the MQTT broker"):
            self._wait("mosquitto", probes.mosquitto_admits)
        with self._report.working("Creating the Kafka topics"):
            preparation.topics(env)

    def _start_processes(self, wanted: Iterable[str]) -> None:
        # The last of the Procfile first: the gateway takes messages only when all behind it is there.
        names = list(reversed(list(wanted)))
        for name in names:
            self._supervisor.start_program(name)
        for name in names:
            with self._report.working(f"Waiting for {name}"):
                self._wait(name)

    def _wait(self, name: str, probe: probes.Probe | None = None) -> None:
        """Returns when the supervisor finds the program running and the probe finds nothing wrong."""
        probe = probe or probes.PROBES.get(name, lambda _: "")
        env = preparation.process_environment(self.env)
        begun = time.monotonic()
        starts: set[int] = set()
        while True:
            status = next((s for s in self._supervisor.status() if s.name == name), None)
            state = status.state if status else _THEIRS
            problem = f"the supervisor reports {state.lower()}"
            if state in {"RUNNING", _THEIRS}:
                problem = probe(env)
            if not problem:
                return
            if status:
                starts.add(status.since)
            patience = _READY_SECONDS if status else _THEIRS_SECONDS
            if state == "FATAL" or len(starts) > _STARTS or time.monotonic() - begun > patience:
                raise NotReadyError(self._verdict(name, problem, ours=status is not None))
            time.sleep(0.1)

    def _verdict(self, name: str, problem: str, *, ours: bool) -> str:
        if not ours:
            variable = next(server.variable for server in servers.SERVERS if server.name == name)
            return f"the {name} that {variable} names does not answer as it should: {problem}"
        last = self.log(name).splitlines()[-_LOG_LINES:]
        where = f"; last lines of {self.layout.log(name)}:\n" + "\n".join(last) if last else ""
        return f"{name} did not get ready: {problem}{where}"

    def _end(self) -> bool:
        if ran := self._supervisor.running():
            known = {status.name for status in self._supervisor.status()}
            for name in [n for n in procfile.read(PROCFILE) if n in known]:
                self._stop_reporting([name])
            self._stop_reporting(
                [n for n in (MOSQUITTO_AUTH, *(s.name for s in servers.SERVERS)) if n in known]
            )
            self._supervisor.shutdown(_STOP_SECONDS)
        left = orphans.end(self.layout)
        for pid, name in left.items():
            self._report.line(f"Ended {name} (process {pid}), which had no supervisor")
        for path in self.layout.run.glob("*.pid"):
            path.unlink()
        self.layout.remove_socket()
        return ran or bool(left)

    def _stop_reporting(self, names: list[str]) -> None:
        running = [name for name in names if name in self._running()]
        if running:
            with self._report.working(f"Stopping {', '.join(running)}"):
                self._supervisor.stop_programs(names, _STOP_SECONDS)
            self._report.line(f"Stopped {', '.join(running)}")

    def _running(self) -> set[str]:
        return {s.name for s in self._supervisor.status() if s.state in _STARTED}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.layout.base.mkdir(parents=True, exist_ok=True)
        with self.layout.lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with self._report.working("Another command is changing this stack; waiting for it"):
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield
