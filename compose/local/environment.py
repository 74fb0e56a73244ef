"""The contents of the env file: where each server is, ours or the user's own, and with which login."""

from collections.abc import Mapping

from compose.local import envfile, ports
from compose.local.errors import StackError
from compose.local.layout import Layout
from compose.local.passwords import password
from compose.local.servers import KAFKA, MOSQUITTO, POSTGRES, REDIS, SERVERS, SERVICE, Server

# The database without PgBouncer.
DIRECT = "DATABASE_DIRECT_URL"


def make(layout: Layout, environ: Mapping[str, str], *, free_ports: bool) -> dict[str, str]:
    """The values for a stack that is about to start.

    A server that `environ` names is used as it is; the others get a port and a login. DOMAINS stay what they
    were until `environ` has others. Raises `StackError` if `environ` contradicts itself.
    """
    before = envfile.read(layout.env)
    theirs = users_own(environ, before)
    ours = [server for server in SERVERS if server.variable not in theirs]
    port = ports.free(port_numbers(before)) if free_ports else ports.from_environment(environ)
    database = f"postgresql://sluice:{password(layout, 'postgres')}@127.0.0.1"
    values = {
        MOSQUITTO.variable: "127.0.0.1",
        "MQTT_PORT": str(port["MQTT_PORT"]),
        "MQTT_USERNAME": SERVICE,
        "MQTT_PASSWORD": password(layout, "mqtt"),
        KAFKA.variable: f"127.0.0.1:{port['KAFKA_PORT']}",
        REDIS.variable: f"redis://:{password(layout, 'redis')}@127.0.0.1:{port['REDIS_PORT']}/0",
        POSTGRES.variable: f"{database}:{port['PGBOUNCER_PORT']}/sluice",
        DIRECT: f"{database}:{port['POSTGRES_PORT']}/sluice",
        "FLOWER_BASIC_AUTH": f"admin:{password(layout, 'flower')}",
        "WEB_TOKEN": password(layout, "web"),
        "METRICS_HOST": "127.0.0.1",
        **{variable: str(number) for variable, number in port.items() if variable != "MQTT_PORT"},
        **theirs,
    }
    if domains := environ.get("DOMAINS") or before.get("DOMAINS"):
        values["DOMAINS"] = domains
    marks = {envfile.fingerprint(_address(server, values)): None for server in ours}
    if POSTGRES in ours:
        marks[envfile.fingerprint(values[DIRECT])] = None
    else:
        values[DIRECT] = theirs.get(DIRECT, values[POSTGRES.variable])
    values[envfile.OWN] = ",".join(marks)
    return values


def users_own(environ: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    """The values of `environ` that name servers of the user's own.

    An address that a local stack once wrote into an env file does not count. Raises `StackError` for an MQTT
    broker without a login.
    """
    marks = envfile.own_values(environ, before)
    theirs = {
        server.variable: environ[server.variable]
        for server in SERVERS
        if environ.get(server.variable) and envfile.fingerprint(_address(server, environ)) not in marks
    }
    direct = environ.get(DIRECT)
    if POSTGRES.variable in theirs and direct and envfile.fingerprint(direct) not in marks:
        theirs[DIRECT] = direct
    if MOSQUITTO.variable in theirs:
        theirs["MQTT_PORT"] = environ.get("MQTT_PORT") or "1883"
        for variable in ("MQTT_USERNAME", "MQTT_PASSWORD"):
            if not environ.get(variable):
                raise StackError(
                    f"MQTT_HOST names a broker of your own, so {variable} must be set too: "
                    "the account with which Sluice reads telemetry and sends alerts"
                )
            theirs[variable] = environ[variable]
    return theirs


def own_servers(values: Mapping[str, str]) -> list[Server]:
    """The servers that an env file declares as the stack's own, in the order of starting."""
    marks = envfile.own_values(values)
    return [server for server in SERVERS if envfile.fingerprint(_address(server, values)) in marks]


def port_numbers(values: Mapping[str, str]) -> dict[str, int]:
    """The ports in an env file, by variable."""
    return {
        variable: int(values[variable]) for variable in ports.DEFAULTS if values.get(variable, "").isdecimal()
    }


def _address(server: Server, values: Mapping[str, str]) -> str:
    value = values.get(server.variable, "")
    return f"{value}:{values.get('MQTT_PORT') or '1883'}" if server is MOSQUITTO else value
