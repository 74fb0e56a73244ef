"""The servers: how each is configured, made ready for its first start, and run."""

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from compose.local import passwords, root_filesystem
from compose.local.envfile import write_private
from compose.local.errors import StackError
from compose.local.layout import PROJECT, Layout

_TEMPLATES = PROJECT / "compose" / "local" / "conf"
_SERVE = PROJECT / "compose" / "local" / "serve.sh"

# The name of Sluice's own MQTT account.
SERVICE = "sluice"
# Every process of a stack carries this variable with the stack's folder, so that none is ever overlooked.
MARK = "SLUICE_STACK"

_KAFKA_JVM = (
    "java -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:+ExplicitGCInvokesConcurrent"
    " -Djava.awt.headless=true -Dlog4j2.configurationFile=/srv/conf/log4j2.properties -cp '/srv/jars/*'"
)


@dataclass(frozen=True)
class Server:
    """One server of the stack.

    `command` and `first` are shell commands run inside the root file system, where `/srv/data`,
    `/srv/conf` and `/srv/run` are the server's data, its configuration and the pid files. `first`
    fills a new data folder and is run once. `variable` is the environment variable by which a
    server of the user's own takes this one's place; `ports` are the variables of what it listens on.
    """

    name: str
    title: str
    variable: str
    ports: tuple[str, ...]
    templates: tuple[str, ...]
    command: str
    first: str = ""
    stop_signal: str = "TERM"
    stop_seconds: int = 30


POSTGRES = Server(
    name="postgres",
    title="PostgreSQL",
    variable="DATABASE_URL",
    ports=("POSTGRES_PORT",),
    templates=("postgresql.conf", "pg_hba.conf"),
    command="/usr/lib/postgresql/17/bin/postgres -D /srv/data -c config_file=/srv/conf/postgresql.conf",
    first=(
        "/usr/lib/postgresql/17/bin/initdb -D /srv/data -U postgres --pwfile=/srv/conf/superuser"
        " --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums"
    ),
    stop_signal="INT",  # TERM would wait for every client to leave
    stop_seconds=60,
)
REDIS = Server(
    name="redis",
    title="Redis",
    variable="REDIS_URL",
    ports=("REDIS_PORT",),
    templates=("redis.conf",),
    command="redis-server /srv/conf/redis.conf",
)
KAFKA = Server(
    name="kafka",
    title="Kafka",
    variable="KAFKA_BOOTSTRAP_SERVERS",
    ports=("KAFKA_PORT", "KAFKA_CONTROLLER_PORT"),
    templates=("server.properties", "log4j2.properties"),
    command=f"{_KAFKA_JVM} $KAFKA_HEAP_OPTS kafka.Kafka /srv/conf/server.properties",
    first=(
        f"{_KAFKA_JVM} -XX:TieredStopAtLevel=1 -Xmx256m kafka.tools.StorageTool format"
        " --config /srv/conf/server.properties --cluster-id c2x1aWNlLWxvY2FsLWthZg"
    ),
)
MOSQUITTO = Server(
    name="mosquitto",
    title="Mosquitto",
    variable="MQTT_HOST",
    ports=("MQTT_PORT",),
    templates=("mosquitto.conf",),
    command="mosquitto -c /srv/conf/mosquitto.conf",
    # Until the accounts are known nobody may do anything; an empty ACL file denies all.
    first="umask 077 && : > /srv/data/passwords && : > /srv/data/acl",
)

# Between Sluice and PostgreSQL, so it is the stack's own wherever that is.
PGBOUNCER = Server(
    name="pgbouncer",
    title="PgBouncer",
    variable="DATABASE_URL",
    ports=("PGBOUNCER_PORT",),
    templates=("pgbouncer.ini",),
    command="pgbouncer /srv/conf/pgbouncer.ini",
    stop_signal="QUIT",  # at once: what is in a transaction is done again
    stop_seconds=10,
)

# In the order of starting; stopped in the reverse order.
SERVERS = (POSTGRES, PGBOUNCER, REDIS, KAFKA, MOSQUITTO)


def configure(server: Server, layout: Layout, ports: Mapping[str, int]) -> None:
    """Writes the server's configuration."""
    folder = layout.conf(server.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    values = {"port": str(ports[server.ports[0]])}
    if server is KAFKA:
        values["controller_port"] = str(ports["KAFKA_CONTROLLER_PORT"])
    if server is REDIS:
        values["password"] = passwords.password(layout, "redis")
    if server is MOSQUITTO:
        values["service"] = SERVICE
    if server is PGBOUNCER:
        values["postgres_port"] = str(ports["POSTGRES_PORT"])
        write_private(folder / "userlist.txt", f'"sluice" "{passwords.password(layout, "postgres")}"\n')
    for name in server.templates:
        write_private(folder / name, fill((_TEMPLATES / name).read_text(), values))
    if server is POSTGRES:
        write_private(folder / "superuser", passwords.password(layout, "postgres-superuser"))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its `${name}`s replaced; raises `KeyError` for one that has no value."""
    return Template(template).substitute(values)


def initialise(server: Server, layout: Layout) -> bool:
    """Makes the server's data folder, once, and says whether it did so now.

    A folder whose making was interrupted is thrown away and made again. Raises `StackError` with the
    tool's own words if it fails.
    """
    data = layout.data(server.name)
    if data.exists():
        return False
    part = data.with_name(f"{data.name}.part")
    root_filesystem.remove_tree(part)
    part.mkdir(parents=True, mode=0o700)
    if server.first:
        done = subprocess.run(
            enclosed(server, layout, part, server.first),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode:
            raise StackError(
                f"{server.title} could not create its data folder:\n{done.stdout}{done.stderr}".rstrip()
            )
    part.rename(data)
    return True


def script(server: Server, layout: Layout) -> str:
    """The shell script that the supervisor runs for this server."""
    command = f"echo $$ > /srv/run/{server.name}.pid; exec {server.command}"
    argv = enclosed(server, layout, layout.data(server.name), command)
    return (
        "#!/bin/sh\nexec "
        + shlex.join(["/bin/sh", str(_SERVE), str(layout.pid(server.name)), server.stop_signal, *argv])
        + "\n"
    )


def enclosed(server: Server, layout: Layout, data: Path, command: str) -> list[str]:
    """The argument list that runs the shell command inside the root file system."""
    user, group = root_filesystem.server_user()
    inside = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/srv",
        MARK: str(layout.base),
    }
    if server.name == KAFKA.name:
        inside["KAFKA_HEAP_OPTS"] = os.environ.get("KAFKA_HEAP_OPTS", "-Xms512m -Xmx1g")
    return [
        "bwrap",
        *("--ro-bind", str(root_filesystem.root()), "/"),
        *("--dev", "/dev"),
        # No new /proc: pids inside are those outside, and containers often forbid mounting one.
        *("--bind", "/proc", "/proc"),
        *("--tmpfs", "/tmp"),  # noqa: S108 - private to the server
        *("--tmpfs", "/run"),
        *("--tmpfs", "/srv"),
        *("--bind", str(data), "/srv/data"),
        *("--ro-bind", str(layout.conf(server.name)), "/srv/conf"),
        *("--bind", str(layout.run), "/srv/run"),
        *(("--ro-bind", str(root_filesystem.jars()), "/srv/jars") if server.name == KAFKA.name else ()),
        *(
            ("--ro-bind", str(root_filesystem.plugins()), "/srv/plugins")
            if server.name == MOSQUITTO.name
            else ()
        ),
        # Postgres refuses to be root and a plain user cannot become another: inside, each is postgres.
        *("--unshare-user", "--uid", str(user), "--gid", str(group)),
        *("--cap-drop", "ALL"),
        "--die-with-parent",
        "--clearenv",
        *(part for name, value in inside.items() for part in ("--setenv", name, value)),
        *("/bin/sh", "-c", command),
    ]
