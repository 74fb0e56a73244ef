"""Whom the alerts for the operator reach: a real Prometheus and Alertmanager, as Compose starts them."""

import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose.local import ports
from tests.conftest import PROJECT
from tests.integration import enclosure, fleet
from tests.integration.receivers import http_receiver, mail_server

FOLDER = PROJECT / "compose" / "observability"
SERVICES = yaml.safe_load((PROJECT / "compose" / "compose.yaml").read_text())["services"]
DOCS = "https://docs.example/sluice/"
# Debian calls the program otherwise than its image does.
PREPARE = "mkdir /tmp/bin; ln -s /usr/bin/prometheus-alertmanager /tmp/bin/alertmanager; PATH=/tmp/bin:$PATH"

Variables = dict[str, str]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for both programs: Compose's files, and the files of secrets, which are empty."""
    tmp_path.chmod(0o777)
    for source in (FOLDER / "alertmanager").iterdir():
        (tmp_path / source.name).write_text(source.read_text())
    for name in SERVICES["alertmanager"]["secrets"]:
        (tmp_path / name).touch()
    return tmp_path


def _script(variables: Variables, *arguments: str) -> list[str]:
    """How the container's script is started, with these variables."""
    words = {
        "ALERTMANAGER_SECRETS": "/srv/write",
        "ALERTMANAGER_CONFIGURATION": "/srv/write/made.yml",
        **variables,
    }
    told = [f"{name}={value}" for name, value in words.items()]
    return ["env", *told, "sh", "-c", f'{PREPARE} exec sh /srv/write/start.sh "$@"', "start", *arguments]


@contextmanager
def _breaker_page(value: int) -> Iterator[int]:
    """The port of a worker's page whose circuit breaker has this state."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(f"db_circuit_breaker_state {value}\n".encode())

        def log_message(self, *_: object) -> None:
            """Does nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _prometheus(place: Path, worker: int, alertmanager: int) -> list[str]:
    """Prometheus with the configuration of Compose, but other addresses, and without waiting."""
    config = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager}"]
    config["scrape_configs"] = [
        {"job_name": "worker", "static_configs": [{"targets": [f"127.0.0.1:{worker}"]}]}
    ]
    (place / "rules").mkdir()
    rules = (FOLDER / "prometheus" / "rules" / "sluice.yml").read_text()
    (place / "rules" / "sluice.yml").write_text(rules.replace("for: 1m", "for: 0s"))
    (place / "prometheus.yml").write_text(json.dumps(config))
    return [
        *("env", f"DOCS_URL={DOCS}", "prometheus", "--config.file=/srv/write/prometheus.yml"),
        # Debian's Prometheus 2 needs the flag; Prometheus 3, which Compose has, does it on its own.
        "--enable-feature=expand-external-labels",
        *(
            "--storage.tsdb.path=/tmp/tsdb",
            f"--web.listen-address=127.0.0.1:{ports.free({})['METRICS_PORT']}",
        ),
    ]


def _shown(port: int) -> list[Any]:
    """The alerts on Alertmanager's page; none while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v2/alerts", timeout=5) as answer:
            found: list[Any] = json.load(answer)
    except OSError:
        return []
    return found


def test_a_rule_that_fires_reaches_the_webhook_and_the_mail_with_its_runbook(place: Path) -> None:
    """An open breaker is reported to both within seconds, with a link to its entry in the runbook."""
    port = ports.free({})["METRICS_PORT"]
    with http_receiver() as hook, mail_server() as mailbox, _breaker_page(1) as page:
        (place / "alertmanager_webhook_url").write_text(f"{hook.url('/on-call')}\n")
        variables = {
            "ALERTMANAGER_MAIL_TO": "o'brien@example.com",
            "ALERTMANAGER_MAIL_FROM": "sluice@example.com",
            "ALERTMANAGER_MAIL_SMARTHOST": f"127.0.0.1:{mailbox.port}",
            "ALERTMANAGER_MAIL_TLS": "no",
        }
        argv = _script(
            variables,
            *(
                "--storage.path=/tmp/data",
                "--cluster.listen-address=",
                f"--web.listen-address=127.0.0.1:{port}",
            ),
        )
        with (
            enclosure.running(argv, write=place),
            enclosure.running(_prometheus(place, page, port), write=place),
        ):
            fleet.wait_until(lambda: bool(hook.told("/on-call") and mailbox.mails), 60, "both to be told")
        link = f"{DOCS}docs/runbook.md#breaker-open"
        told = hook.told("/on-call")[0].notice
        assert told["status"] == "firing"
        (alert,) = told["alerts"]
        assert alert["labels"] == {"alertname": "SluiceBreakerOpen", "severity": "critical"}
        assert alert["annotations"]["runbook"] == link
        mail = mailbox.mails[0]
        assert mail["To"] == "o'brien@example.com"
        body = mail.get_body()
        assert body is not None
        assert link in body.get_content()
    said = enclosure.run(["amtool", "check-config", "/srv/read/made.yml"], read=place)
    assert "SUCCESS" in said


def test_without_a_receiver_the_alerts_are_shown(place: Path) -> None:
    """Nothing is set: Alertmanager starts, takes alerts and has them on its page."""
    port = ports.free({})["METRICS_PORT"]
    argv = _script(
        {}, "--storage.path=/tmp/data", "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"
    )
    with (
        _breaker_page(1) as page,
        enclosure.running(argv, write=place),
        enclosure.running(_prometheus(place, page, port), write=place),
    ):
        fleet.wait_until(lambda: len(_shown(port)) > 0, 60, "the alert to be shown")
        (alert,) = _shown(port)
    assert alert["labels"]["alertname"] == "SluiceBreakerOpen"


@pytest.mark.parametrize(
    ("variables", "secret", "said"),
    [
        ({"ALERTMANAGER_MAIL_TO": "a@b.c"}, "", "ALERTMANAGER_MAIL_FROM is missing"),
        (
            {"ALERTMANAGER_MAIL_TO": "a@b.c", "ALERTMANAGER_MAIL_FROM": "s@b.c"},
            "",
            "ALERTMANAGER_MAIL_SMARTHOST is not host:port",
        ),
        ({}, "hooks.example.com/x", "the file alertmanager_webhook_url is no URL"),
    ],
)
def test_a_receiver_that_is_half_set_is_refused(
    place: Path, variables: Variables, secret: str, said: str
) -> None:
    """The container ends at once and says what to set; it never starts with receivers that reach nobody."""
    (place / "alertmanager_webhook_url").write_text(secret)
    done = subprocess.run(
        enclosure.enclosed(_script(variables), write=place),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert said in done.stderr
