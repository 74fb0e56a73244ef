"""The entry point in EMQX's place: Mosquitto, whose files of accounts and rights follow the database.

It takes the database's password from emqx.conf, as EMQX does, and answers at 18083 while the broker runs.
"""

import base64
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

DATA = Path("/opt/emqx/data")
CONF = Path("/opt/emqx/etc/emqx.conf")
SEPARATOR = "\x1f"
# As EMQX's role may read them; how often to hash is in emqx.conf.
USERS = "SELECT username, password_hash, salt FROM mqtt_users WHERE enabled ORDER BY username"
RIGHTS = (
    "SELECT username, permission, action, topic FROM mqtt_acl ORDER BY username, permission, action, topic"
)
ACCESS = {"publish": "write", "subscribe": "read", "all": "readwrite"}


def setting(expression: str) -> str:
    """A setting of emqx.conf. Raises `TypeError` when it has none."""
    return re.search(expression, CONF.read_text())[1]  # type: ignore[index]


def password_file(rows: list[list[str]], iterations: str) -> str:
    """Mosquitto's password file."""
    lines = []
    for name, password_hash, salt in rows:
        encoded = base64.b64encode(bytes.fromhex(password_hash)).decode()
        lines.append(f"{name}:$7${iterations}${base64.b64encode(salt.encode()).decode()}${encoded}\n")
    return "".join(lines)


def acl_file(rows: list[list[str]]) -> str:
    """Mosquitto's file of rights: what no line allows is denied."""
    text, current = "topic deny #\n", ""
    for name, permission, action, topic in rows:
        text += f"\nuser {name}\n" if name != current else ""
        text += f"topic {'deny' if permission == 'deny' else ACCESS[action]} {topic}\n"
        current = name
    return text


def ask(query: str) -> list[list[str]]:
    """The rows, by psql. Raises `subprocess.SubprocessError`."""
    password = setting(r'password = "([^"]+)"')
    done = subprocess.run(
        [
            *("psql", "--no-psqlrc", "--tuples-only", "--no-align", f"--field-separator={SEPARATOR}"),
            *("--host=timescaledb", "--username=sluice_emqx", "--dbname=sluice", f"--command={query}"),
        ],
        env={"PATH": os.environ["PATH"], "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "3"},
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return [line.split(SEPARATOR) for line in done.stdout.splitlines()]


def write(path: Path, text: str) -> bool:
    """Replaces the file; returns whether it was different."""
    if path.exists() and path.read_text() == text:
        return False
    fresh = path.with_suffix(".fresh")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)
    return True


def follow(broker: "subprocess.Popen[bytes]") -> None:
    """Once a second as long as the broker runs. A database that is away is tried again."""
    while broker.poll() is None:
        try:
            # In this order nobody is let in whose rights are not there yet.
            users, rights = ask(USERS), ask(RIGHTS)
            changed = [
                write(DATA / "acl", acl_file(rights)),
                write(DATA / "passwords", password_file(users, setting(r"iterations = (\d+)"))),
            ]
            if any(changed):
                broker.send_signal(signal.SIGHUP)
        except subprocess.CalledProcessError as error:
            print(f"the accounts cannot be read: {error.stderr.strip()}", flush=True)  # noqa: T201 - the log
        except subprocess.TimeoutExpired:
            print("the accounts cannot be read: no answer", flush=True)  # noqa: T201
        time.sleep(1)


class Status(http.server.BaseHTTPRequestHandler):
    """Answers 200 while the broker listens."""

    def do_GET(self) -> None:
        """The status page."""
        try:
            socket.create_connection(("127.0.0.1", 1883), timeout=2).close()
        except OSError:
            self.send_error(503)
        else:
            self.send_response(200)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


def main() -> None:
    """Runs the broker until it ends, or until SIGTERM, which goes on to it."""
    for name in ("acl", "passwords"):
        if not (DATA / name).exists():
            write(DATA / name, "topic deny #\n" if name == "acl" else "")
    broker = subprocess.Popen(["mosquitto", "-c", "/opt/mosquitto.conf"])
    signal.signal(signal.SIGTERM, lambda *_: broker.send_signal(signal.SIGTERM))
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 18083), Status)  # noqa: S104 - in a container
    for work in (server.serve_forever, lambda: follow(broker)):
        threading.Thread(target=work, daemon=True).start()
    sys.exit(broker.wait())


if __name__ == "__main__":
    main()
