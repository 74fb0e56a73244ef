"""The web process under its least-privileged role, and a client of the HTTP API."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

from compose.local import ports
from compose.local.passwords import password
from compose.local.preparation import process_environment
from compose.local.stack import Stack
from ingest.admin.servers import migrate, roles
from tests.conftest import PROJECT
from tests.integration import fleet

OPERATOR = "operator-of-the-tests"
ROLE = "sluice_web"
STREAM = "/api/v1/events"
"""Its answer has no end."""


class Answer(NamedTuple):
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    document: Any


class Web:
    """The process at its port."""

    def __init__(self, port: int, metrics_port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.metrics_url = f"http://127.0.0.1:{metrics_port}"

    def ask(
        self,
        path: str,
        token: str | None = OPERATOR,
        query: Mapping[str, object] | None = None,
        *,
        method: str = "GET",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Asks for a path behind `/api/v1`; an error is an answer too."""
        url = f"{self.url}/api/v1{quote(path)}{'?' + urlencode(query) if query else ''}"
        given = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(url, given, dict(headers or {}), method=method)  # noqa: S310 - our own
        if given is not None:
            request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - our own
                return _answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            return _answer(error.code, dict(error.headers), error.read())

    @contextmanager
    def listen(self, token: str, **headers: str) -> Iterator[Iterator[dict[str, str]]]:
        """The events as they come, until the server ends the stream: the fields of each."""
        request = urllib.request.Request(f"{self.url}/api/v1/events", headers=dict(headers))  # noqa: S310 - our own
        request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - our own
            yield _events(line.decode().rstrip("\n") for line in response)

    def ready(self) -> bool:
        """Whether the process says that it does its work."""
        try:
            with urllib.request.urlopen(f"{self.metrics_url}/readyz", timeout=5) as response:  # noqa: S310 - our own
                return bool(response.status == 200)
        except OSError:
            return False


def _answer(status: int, headers: dict[str, str], body: bytes) -> Answer:
    given = {name.lower(): value for name, value in headers.items()}
    is_one_object = given.get("content-type", "") in {"application/json", "application/problem+json"}
    return Answer(status, given, json.loads(body) if body and is_one_object else body.decode() or None)


def _events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        else:
            yield fields
            fields = {}


@contextmanager
def running(stack: Stack, **settings: str) -> Iterator[Web]:
    """The process on ports of its own; fails unless it ends with 0 when it is stopped."""
    free = ports.free({})
    port, metrics_port = free["WEB_PORT"], free["WEB_METRICS_PORT"]
    environment = process_environment(stack.env) | {
        "SLUICE_ENV_FILE": os.devnull,
        "WEB_TOKEN": OPERATOR,
        "WEB_PORT": str(port),
        "WEB_METRICS_PORT": str(metrics_port),
        **settings,
    }
    log = stack.layout.base / "web-of-the-tests.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ingest.web"], cwd=PROJECT, env=environment, stderr=output
        )
    try:
        web = Web(port, metrics_port)
        fleet.wait_until(web.ready, 60, "the web process to be ready")
        yield web
    finally:
        process.terminate()
        ended = process.wait(60)
    assert ended == 0, log.read_text()[-2000:]


@contextmanager
def role(stack: Stack) -> Iterator[str]:
    """The URL of the role `sluice_web`, with its rights."""
    direct = stack.env["DATABASE_DIRECT_URL"]
    superuser = make_conninfo(direct, user="postgres", password=password(stack.layout, "postgres-superuser"))
    secret = uuid4().hex
    with psycopg.connect(superuser, autocommit=True) as server:
        made = roles.create(server)
        roles.set_password(server, ROLE, secret)
    with psycopg.connect(direct, autocommit=True) as owner:
        migrate.migrate(owner, migrate.load(), lambda _: None)
    yield f"postgresql://{ROLE}:{secret}@{direct.rpartition('@')[2]}"
    with psycopg.connect(superuser, autocommit=True) as server:
        for name in made:
            server.execute(f"DROP OWNED BY {name}")
            server.execute(f"DROP ROLE {name}")
