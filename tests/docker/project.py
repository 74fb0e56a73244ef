"""The Compose stack under test: a copy of this checkout, its secrets, and free ports of this machine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.conninfo import make_conninfo

from compose.local import ports
from compose.local.layout import PROJECT
from compose.local.procfile import read as read_procfile
from tests.docker.command import Failed, expect, run, wait_until
from tests.docker.daemon import Docker
from tests.docker.load import Connection

NAME = "sluice-docker-test"
UP_SECONDS = 420
DOWN_SECONDS = 240
PROCESSES = tuple(read_procfile(PROJECT / "Procfile"))
"""The services that run a process of Sluice's."""
_TEXT = (PROJECT / "compose" / "compose.yaml").read_text()
_SERVICES: dict[str, Any] = yaml.safe_load(_TEXT)["services"]
_PROFILE = "gateway"
NAMED = tuple(name for name in PROCESSES if _SERVICES[name].get("profiles", [_PROFILE]) != [_PROFILE])
"""Those of them that are started by their names: their profiles may have services without a stand-in."""
# The ports of this machine, each a variable of compose.yaml.
_PORTS = sorted(set(re.findall(r"HOST_[A-Z_]+_PORT", _TEXT)))


@dataclass
class Project:
    """The stack, and how it is reached from this machine."""

    docker: Docker
    folder: Path
    """The copy of the checkout."""
    ports: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def copy(cls, docker: Docker, folder: Path) -> "Project":
        """A fresh copy of what git knows of, so without passwords and data."""
        shutil.rmtree(folder, ignore_errors=True)
        names = run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            seconds=60,
            folder=PROJECT,
        )
        for name in filter(None, names.split("\0")):
            if (PROJECT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / name, folder / name)
        return cls(docker, folder, dict(zip(_PORTS, _free(len(_PORTS)), strict=True)))

    @cached_property
    def environ(self) -> dict[str, str]:
        """The environment of Compose: another name for the project, the gateway's profile, free ports."""
        return {
            **self.docker.environ,
            "COMPOSE_PROJECT_NAME": NAME,
            "COMPOSE_PROFILES": _PROFILE,
            # There is no collector.
            "OTEL_EXPORTER_OTLP_ENDPOINT": "",
            **{name: str(port) for name, port in self.ports.items()},
        }

    def compose(self, *arguments: str, seconds: float = 60, stdin: str = "") -> str:
        """What `docker compose ARGUMENTS` prints. Raises `Failed`."""
        argv = ["docker", "compose", "--file", "compose/compose.yaml", *arguments]
        return run(argv, seconds=seconds, environ=self.environ, folder=self.folder, stdin=stdin)

    def shell(self, script: str, seconds: float) -> str:
        """The output of a script that is run in the checkout, as a reader of the docs would run it."""
        return run(["sh", "-euc", script], seconds=seconds, environ=self.environ, folder=self.folder)

    def up(self, *services: str) -> None:
        """Starts what does not run, and returns when all is healthy. Raises `Failed`."""
        self.compose("up", "--detach", "--wait", *services, seconds=UP_SECONDS)

    def up_all(self) -> None:
        """Starts all processes, and Prometheus. Raises `Failed`."""
        self.up()
        self.up(*NAMED, "prometheus")

    def make_secrets(self, *options: str) -> None:
        """Makes the passwords that are missing."""
        argv = [sys.executable, "-m", "compose.generate_secrets", *options]
        run(argv, seconds=60, folder=self.folder)

    def secret(self, name: str) -> str:
        """The content of a file of passwords."""
        return (self.folder / "compose" / "secrets" / name).read_text().strip()

    def container(self, service: str) -> str:
        """The id of a service's container. Raises `Failed` when it has none."""
        found = self.compose("ps", "--all", "--quiet", service).split()
        expect(len(found) == 1, f"{service} has {len(found)} containers")
        return found[0]

    def state(self, service: str) -> dict[str, Any]:
        """What Docker says of the container: `Pid`, `Status`, `ExitCode`, `StartedAt`, `Health`."""
        found: dict[str, Any] = json.loads(self.docker.inspect(self.container(service), "{{json .State}}"))
        return found

    def healthy(self, service: str) -> bool:
        """Whether the container runs, and its health check says that it is well."""
        state = self.state(service)
        return bool(state["Status"] == "running" and state.get("Health", {}).get("Status") == "healthy")

    def inside(self, service: str, *argv: str, seconds: float = 60) -> str:
        """The output of a command in the service's container. Raises `Failed`."""
        return self.compose("exec", "-T", service, *argv, seconds=seconds)

    def operator(self, script: str, seconds: float = 120) -> str:
        """The output of an operator's command, run as the docs say, in a container of its own."""
        return self.compose("run", "--rm", "-T", "--no-deps", "setup", script, seconds=seconds)

    def kill_process(self, service: str) -> None:
        """SIGKILL to the container's main process, as the kernel does it when memory is short."""
        os.kill(self.state(service)["Pid"], signal.SIGKILL)

    def broker(self, *, tls: bool = False) -> tuple[str, int]:
        """The host and the port of MQTT on this machine. The certificate is for the name of the host."""
        if tls:
            return "localhost", self.ports["HOST_MQTT_TLS_PORT"]
        return "127.0.0.1", self.ports["HOST_MQTT_PORT"]

    @property
    def authority(self) -> Path:
        """The certificate that vouches for the broker's."""
        return self.folder / "compose" / "secrets" / "mqtt_ca.pem"

    @contextmanager
    def database(self) -> Iterator[Connection]:
        """The database as its superuser, by the port of this machine."""
        conninfo = make_conninfo(
            host="127.0.0.1",
            port=self.ports["HOST_POSTGRES_PORT"],
            user="postgres",
            password=self.secret("postgres_password"),
            dbname="sluice",
            connect_timeout=5,
        )
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield connection

    def down(self, *options: str) -> None:
        """Removes all containers and networks; with `--volumes` the data, too."""
        self.compose("--profile", "*", "down", "--timeout", "60", *options, seconds=DOWN_SECONDS)

    def remove(self) -> None:
        """Removes everything of the stack; what Compose does not, by its label."""
        with suppress(Failed):
            self.down("--volumes", "--remove-orphans")
        label = f"label=com.docker.compose.project={NAME}"
        for kind, remove in (
            ("container", ("rm", "--force")),
            ("volume", ("rm", "--force")),
            ("network", ("rm",)),
        ):
            listing = ("ls", "--all", "--quiet") if kind == "container" else ("ls", "--quiet")
            with suppress(Failed):
                for name in self.docker(kind, *listing, "--filter", label).split():
                    self.docker(kind, *remove, name)

    def await_healthy(self, service: str, seconds: float) -> None:
        """Returns when the service is healthy. Raises `Failed`."""

        def holds() -> bool:
            with suppress(Failed, subprocess.SubprocessError):
                return self.healthy(service)
            return False

        try:
            wait_until(holds, seconds, f"{service} to be healthy")
        except Failed as error:
            raise Failed(f"{error}; {self._last_check(service)}") from error

    def _last_check(self, service: str) -> str:
        """The output of the container's last health check."""
        state = self.state(service)
        checks = state.get("Health", {}).get("Log") or [{"Output": "never checked"}]
        said = " ".join(str(checks[-1]["Output"]).split())
        return f"{state['Status']}, checked {len(checks)} times, last: {said or 'well'}"


def _free(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += [port for port in ports.free({}).values() if port not in found]
    return found[:count]
