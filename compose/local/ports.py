"""The ports of a stack: the usual ones, those of the environment, or free ones."""

import secrets
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from compose.local.errors import PortTakenError, StackError

# By variable: the default and what listens there.
DEFAULTS: dict[str, tuple[int, str]] = {
    "KAFKA_PORT": (9092, "Kafka"),
    "KAFKA_CONTROLLER_PORT": (9093, "Kafka's controller"),
    "REDIS_PORT": (6379, "Redis"),
    "POSTGRES_PORT": (5432, "PostgreSQL"),
    "PGBOUNCER_PORT": (6432, "PgBouncer"),
    "MQTT_PORT": (1883, "Mosquitto"),
    "FLOWER_PORT": (5555, "Flower"),
    "METRICS_PORT": (9000, "the worker's metrics"),
    "GATEWAY_METRICS_PORT": (9001, "the gateway's metrics"),
    "BRIDGE_METRICS_PORT": (9002, "the bridge's metrics"),
    "CONTROL_METRICS_PORT": (9003, "the control process's metrics"),
    "BEAT_METRICS_PORT": (9004, "beat's metrics"),
    "NOTIFY_METRICS_PORT": (9005, "the notify worker's metrics"),
    "WEB_PORT": (8088, "the HTTP API"),
    "WEB_METRICS_PORT": (9006, "the metrics of the HTTP API"),
}

# Below the range from which the kernel takes ports for outgoing connections: there, a client that tries to
# reach a server that is down can be given the server's own port, connect to itself and keep the server out.
FREE = range(20000, 30000)


def usual() -> str:
    """The usual ports, and the variables that change them, as a sentence."""
    listed = ", ".join(f"{variable}={number}" for variable, (number, _) in DEFAULTS.items())
    return f"Ports, each changed by its variable (`MQTT_PORT=2883 make up`):\n  {listed}"


def from_environment(environ: Mapping[str, str]) -> dict[str, int]:
    """The ports by variable; raises `StackError` for a value that is not a port."""
    ports = {}
    for variable, (default, _) in DEFAULTS.items():
        text = environ.get(variable) or str(default)
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            raise StackError(f"{variable} is {text!r}, which is not a port (1 to 65535)")
        ports[variable] = int(text)
    return ports


def free(before: Mapping[str, int]) -> dict[str, int]:
    """A free port for every variable, the one of `before` where that is still free."""
    ports: dict[str, int] = {}
    for variable in DEFAULTS:
        wanted = [before[variable]] if variable in before else []
        for port in (*wanted, *secrets.SystemRandom().sample(FREE, 200)):
            if port not in ports.values() and is_free(port):
                ports[variable] = port
                break
        else:
            raise StackError(f"found no free port between {FREE.start} and {FREE.stop - 1} for {variable}")
    return ports


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def require_free(ports: Mapping[str, int], needed: Collection[str]) -> None:
    """Raises `PortTakenError` naming every needed port that another program holds."""
    taken = [variable for variable in needed if not is_free(ports[variable])]
    if taken:
        raise PortTakenError(
            "\n".join(
                f"port {ports[v]}, wanted for {DEFAULTS[v][1]}, is in use by {holder(ports[v])}; "
                f"free it or set {v} to another port"
                for v in taken
            )
        )


def holder(port: int) -> str:
    """The process that listens on `port`, as far as this user may see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:  # another user's process, or one that ended meanwhile
            continue
    return "another program"
