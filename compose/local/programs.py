"""The supervisor's programs, as shell scripts: the servers of the stack and the processes of the Procfile."""

import shlex
import sys
from collections.abc import Iterable, Mapping

from compose.local import servers
from compose.local.layout import PROJECT, Layout
from compose.local.supervise import Program

# Keeps Mosquitto's accounts equal to the tables; runs wherever Mosquitto is the stack's own.
MOSQUITTO_AUTH = "mosquitto-auth"

PROCESS_STOP_SECONDS = 45


def programs(layout: Layout, own: Iterable[servers.Server], listed: Mapping[str, str]) -> list[Program]:
    """One program for each server of the stack's own and for each process of the Procfile."""
    chosen = [Program(s.name, servers.script(s, layout), s.stop_seconds) for s in own]
    if servers.MOSQUITTO in own:
        chosen.append(Program(MOSQUITTO_AUTH, process_script(layout, MOSQUITTO_AUTH, _auth(layout)), 10))
    return chosen + [
        Program(name, process_script(layout, name, command), PROCESS_STOP_SECONDS)
        for name, command in listed.items()
    ]


def process_script(layout: Layout, name: str, command: str) -> str:
    """The script that reads the env file at each start, writes the pid file and becomes the command."""
    pid = shlex.quote(str(layout.pid(name)))
    env = shlex.quote(str(layout.env))
    return "\n".join(
        [
            "#!/bin/sh",
            f"set -a; . {env}; set +a",
            f"export SLUICE_ENV_FILE={env}",
            f"cd {shlex.quote(str(PROJECT))} || exit 1",
            # The children of a main process that was killed hard would go on working next to the new one.
            f'if [ -s {pid} ]; then kill -s KILL -- "-$(cat {pid})" 2>/dev/null; fi',
            f"echo $$ > {pid}",
            f"exec {command}",
            "",
        ]
    )


def _auth(layout: Layout) -> str:
    data = layout.data("mosquitto")
    return shlex.join(
        [
            *(sys.executable, "-m", "compose.local.mosquitto_auth"),
            *("--password-file", str(data / "passwords")),
            *("--acl-file", str(data / "acl")),
            *("--pid-file", str(layout.pid("mosquitto"))),
        ]
    )
