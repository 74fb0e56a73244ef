"""The servers' own clients, as commands in the stack's folder `bin`: the host need not have them."""

import shlex

from compose.local import root_filesystem
from compose.local.layout import Layout

NAMES = ("psql", "pg_dump", "pg_restore", "mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "redis-cli")


def write(layout: Layout) -> None:
    """Makes each a script that runs the program of the servers' root file system, which it cannot change."""
    folder = layout.base / "bin"
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        enclosure = [
            "bwrap",
            "--ro-bind",
            str(root_filesystem.root()),
            "/",
            "--dev",
            "/dev",
            "--bind",
            "/proc",
            "/proc",
        ]
        enclosure += ["--tmpfs", "/tmp", "--chdir", "/", "--die-with-parent", f"/usr/bin/{name}"]  # noqa: S108
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(enclosure)} "$@"\n')
        script.chmod(0o755)
