"""The addresses: one line for each server and process."""

import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from compose.local import client_scripts, environment, servers
from compose.local.stack import Stack

_NAME_COLUMNS = 15


def where(stack: Stack) -> list[str]:
    """The addresses of a stack that is up, without any password."""
    env = stack.env
    own = environment.own_servers(env)
    shown = [s for s in servers.SERVERS if s in own or s is not servers.PGBOUNCER]
    lines = [_line(s.title, _address(s, env) + ("" if s in own else " (your own)")) for s in shown]
    running = {status.name for status in stack.status() if status.state == "RUNNING"}
    if "flower" in running:
        login = "login: FLOWER_BASIC_AUTH in the settings"
        lines.append(_line("Flower", f"http://127.0.0.1:{env['FLOWER_PORT']} ({login})"))
    if "web" in running:
        at = f"http://127.0.0.1:{env['WEB_PORT']}"
        lines.append(_line("Console", f"{at}/ (token: WEB_TOKEN in the settings)"))
        lines.append(_line("HTTP API", f"{at}/api/v1/ (the same token)"))
    file = shlex.quote(_shown(stack.layout.env))
    lines.append(_line("Settings", f"{file} (a shell takes them by `set -a; . {file}; set +a`)"))
    lines.append(_line("Clients", f"{_shown(stack.layout.base / 'bin')}: {', '.join(client_scripts.NAMES)}"))
    lines.append(_line("Logs", _shown(stack.layout.log("NAME"))))
    return lines


def not_applied(env: Mapping[str, str], environ: Mapping[str, str]) -> list[str]:
    """The variables of `environ` that a running stack, whose env file is `env`, has with another value."""
    return sorted(name for name in {*env, "DOMAINS"} if environ.get(name) and environ[name] != env.get(name))


def states(stack: Stack) -> list[str]:
    """Each program: state, process id, for how long, and how often it was started again."""
    restarts = stack.restarts()
    now = time.time()
    lines = []
    for status in stack.status():
        text = status.state.lower()
        if status.state == "RUNNING":
            text += f", process {stack.pid(status.name)}, for {_duration(now - status.since)}"
        if again := restarts.get(status.name):
            text += f", started again {again} time{'s' if again > 1 else ''}"
        lines.append(_line(status.name, f"{text} {status.problem}".rstrip()))
    return lines


def _line(name: str, text: str) -> str:
    return f"{name:{_NAME_COLUMNS}} {text}"


def _address(server: servers.Server, env: Mapping[str, str]) -> str:
    value = env[environment.DIRECT if server is servers.POSTGRES else server.variable]
    if server is servers.MOSQUITTO:
        return f"{value}:{env['MQTT_PORT']}"
    if "://" not in value:
        return value
    parts = urlsplit(value)
    return f"{parts.hostname}:{parts.port}{parts.path}" if parts.port else f"{parts.hostname}{parts.path}"


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
