"""Promises that hold while nothing breaks: the start, the processes' enclosure, and the ways of a message."""

import base64
import json
import re
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Consumer, TopicPartition

from compose.local.layout import PROJECT
from tests.docker.command import Failed, expect, wait_until
from tests.docker.load import DEVICES, USER, Account, connect, disconnect, reading, send, topic
from tests.docker.project import PROCESSES, Project
from tests.docker.requests import subscribe

PERSON = "ada"
PROMETHEUS = PROJECT / "compose" / "observability" / "prometheus"
ROW_SECONDS = 30.0
_LETTER_TOPIC = "iot-stream-dlq"
_ACCOUNTS_SECONDS = 240
_PAUSED_SECONDS = 4.0
_ROWS = "SELECT count(*) FROM raw_telemetry WHERE user_id = %s AND sequence_id = %s"


@dataclass
class Proofs:
    """The proofs, in the order in which they are run; `accounts` is filled by `provision`."""

    project: Project
    accounts: dict[str, Account] = field(default_factory=dict)

    def setup(self) -> str:
        """One command makes the passwords, the next the stack."""
        self.project.make_secrets()
        self.project.up_all()
        state = self.project.state("setup")
        expect(state["ExitCode"] == 0, f"setup ended with {state['ExitCode']}")
        listed = self.project.operator("sluice migrate && sluice topics")
        return f"`up --wait` returns; migrated, {listed.count('iot-stream')} topics named"

    def health(self) -> str:
        """Each service says that it is well, and so does `sluice status` of all processes."""
        names = self.project.compose("ps", "--services").split()
        ill = [name for name in names if not self.project.healthy(name)]
        expect(not ill, f"not healthy: {', '.join(ill)}")
        self.project.operator("sluice status")
        return f"{len(names)} services healthy, `sluice status` exits with 0"

    def enclosure(self) -> str:
        """No process is root, none can write outside of /tmp, none has a capability."""
        script = (
            "id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status;"
            " for folder in / /app /venv /run/secrets; do"
            ' if touch $folder/new 2>/dev/null; then echo "wrote to $folder"; fi; done; touch /tmp/new'
        )
        for name in PROCESSES:
            told = self.project.inside(name, "sh", "-c", script)
            expect(told.startswith("10001\n"), f"{name} runs as user {told.split()[0]}")
            expect(re.search(r"CapEff:\s+0+\n", told), f"{name} has capabilities")
            expect(re.search(r"NoNewPrivs:\s+1", told), f"{name} may gain privileges")
            expect("wrote to" not in told, f"{name} {told.splitlines()[-1]}")
        return f"{len(PROCESSES)} processes: user 10001, no capability, nothing writable but /tmp"

    def secrets(self) -> str:
        """Nobody else may enter their folder, each container sees its own, and none is shown elsewhere."""
        folder = self.project.folder / "compose" / "secrets"
        mode = folder.stat().st_mode & 0o777
        expect(mode == 0o700, f"{folder.name} has mode {mode:o}")
        modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
        expect(set(modes.values()) == {0o444}, f"modes {modes}")
        config: dict[str, Any] = json.loads(
            self.project.compose("--profile", "*", "config", "--format", "json")
        )
        for name in PROCESSES:
            granted = {
                Path(one.get("target") or one["source"]).name for one in config["services"][name]["secrets"]
            }
            seen = set(self.project.inside(name, "ls", "/run/secrets").split())
            expect(seen == granted, f"{name} sees {sorted(seen ^ granted)}")
        words = [text for path in folder.iterdir() if len(text := path.read_text().strip()) == 43]
        told = self.project.compose("logs", "--no-color", seconds=60)
        for name in self.project.compose("ps", "--all", "--services").split():
            told += self.project.docker("inspect", self.project.container(name))
        told += self.project.docker("history", "--no-trunc", "sluice:local")
        expect(not any(word in told for word in words), "a password is in the logs, or in what Docker shows")
        return f"folder 0700, {len(modes)} files 0444; none in logs, environments, command lines, image"

    def provision(self) -> str:
        """Accounts for devices and a user, by the operator's commands."""
        lines = [f"sluice provision device {USER} {device} --json" for device in DEVICES]
        lines += [f"sluice provision device {PERSON} fridge --json", f"sluice provision user {PERSON} --json"]
        told = self.project.operator("; ".join(lines), seconds=_ACCOUNTS_SECONDS)
        made = [Account(**json.loads(line)) for line in told.splitlines() if line.startswith("{")]
        expect(len(made) == len(lines), f"{len(made)} of {len(lines)} accounts: {told[-300:]}")
        self.accounts = dict(zip([*DEVICES, "fridge", PERSON], made, strict=True))
        return f"{len(made)} accounts"

    def row(self, number: int, *, tls: bool) -> str:
        """A reading becomes a row. By TLS, the certificate's name and authority are checked."""
        client = connect(
            self.project, self.accounts["fridge"], authority=self.project.authority if tls else None
        )
        try:
            send(client, topic(PERSON, "fridge"), reading(number))
        finally:
            disconnect(client)
        seconds = self._await_row(number)
        return f"a row after {seconds:.1f} s"

    def pool(self) -> str:
        """Rows go by PgBouncer: while it stands still there are none, and then they come."""
        pool = self.project.container("pgbouncer")
        client = connect(self.project, self.accounts["fridge"])
        self.project.docker("pause", pool)
        try:
            send(client, topic(PERSON, "fridge"), reading(3))
            time.sleep(_PAUSED_SECONDS)
            with self.project.database() as connection:
                found = connection.execute(_ROWS, [PERSON, 3]).fetchone()
                right = "SELECT has_table_privilege('sluice_writer', 'raw_telemetry', 'DELETE')"
                may_delete = connection.execute(right).fetchone()
        finally:
            self.project.docker("unpause", pool)
            disconnect(client)
        expect(found == (0,), "there was a row while PgBouncer stood still")
        expect(may_delete == (False,), "sluice_writer may delete rows")
        seconds = self._await_row(3)
        return (
            f"none in {_PAUSED_SECONDS:.0f} s while it is paused, a row {seconds:.1f} s after that;"
            " its role may delete nothing"
        )

    def alert(self) -> str:
        """A user's rule by MQTT, and the alert of a reading that it holds for."""
        listener, device = connect(self.project, self.accounts[PERSON]), None
        notices: list[dict[str, Any]] = []
        listener.on_message = lambda _c, _d, message: notices.append(json.loads(message.payload))
        try:
            subscribe(listener, f"users/{PERSON}/alerts", f"users/{PERSON}/config/status")
            rule = {"key": "temperature", "operator": ">", "threshold": 80, "message": "too hot"}
            send(listener, f"users/{PERSON}/config", json.dumps({"rules": [rule]}).encode())
            wait_until(
                lambda: any("ok" in notice for notice in notices), ROW_SECONDS, "the answer to the rule"
            )
            expect(notices[0]["ok"], f"the rule was refused: {notices[0]}")
            device = connect(self.project, self.accounts["fridge"])
            send(device, topic(PERSON, "fridge"), reading(10, temperature=90))
            seconds = wait_until(
                lambda: any(notice.get("status") == "TRIGGERED" for notice in notices),
                ROW_SECONDS,
                "the alert",
            )
        finally:
            for client in filter(None, (listener, device)):
                disconnect(client)
        return f"TRIGGERED after {seconds:.1f} s"

    def dead_letter(self) -> str:
        """A message without a number is refused with the reason, and again after a replay."""
        payload = b'{"temperature": 21.5}'
        client = connect(self.project, self.accounts["fridge"])
        try:
            send(client, topic(PERSON, "fridge"), payload)
        finally:
            disconnect(client)
        wait_until(lambda: len(self._letters(payload)) == 1, ROW_SECONDS, "the dead letter")
        (letter,) = self._letters(payload)
        expect("sequence_id" in letter["error"], f"the reason is {letter['error']!r}")
        self._call("tasks.replay.dead_letters", user=PERSON)
        wait_until(lambda: len(self._letters(payload)) == 2, ROW_SECONDS, "the replayed letter")
        attempts = sorted(one["attempts"] for one in self._letters(payload))
        expect(attempts == [1, 2], f"attempts {attempts}")
        return f"{letter['error_type']}: {letter['error']}; replayed and refused again, attempts 1 and 2"

    def replay(self) -> str:
        """A row that is gone comes back from Kafka, by `celery call` in the worker's container."""
        with self.project.database() as connection:
            connection.execute("DELETE FROM raw_telemetry WHERE user_id = %s AND sequence_id = 1", [PERSON])
        self._call("tasks.replay.times", start="1h")
        seconds = self._await_row(1)
        return f"the deleted row is there again after {seconds:.1f} s"

    def flower(self) -> str:
        """Its page asks for the login, and lets in by it."""
        address = f"http://127.0.0.1:{self.project.ports['HOST_FLOWER_PORT']}/"
        codes = []
        for login in ("", "admin:wrong", self.project.secret("flower_basic_auth")):
            request = urllib.request.Request(address)
            if login:
                request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                    codes.append(answer.status)
            except urllib.error.HTTPError as error:
                codes.append(error.code)
                error.close()
        expect(codes == [401, 401, 200], f"answers {codes}")
        return "401 without a login and with a wrong one, 200 with that of the secrets"

    def prometheus(self) -> str:
        """It finds and reads all processes with metrics, and its rules are valid."""
        address = f"http://127.0.0.1:{self.project.ports['HOST_PROMETHEUS_PORT']}/api/v1"

        def states() -> list[str]:
            with suppress(OSError):
                return [one["health"] for one in _get(f"{address}/targets")["data"]["activeTargets"]]
            return []

        count = len(yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"])
        wait_until(lambda: states() == ["up"] * count, 60, f"{count} targets that are up")
        groups = _get(f"{address}/rules")["data"]["groups"]
        return f"{count} of {count} targets up, {sum(len(group['rules']) for group in groups)} rules loaded"

    def _await_row(self, number: int) -> float:
        with self.project.database() as connection:
            return wait_until(
                lambda: connection.execute(_ROWS, [PERSON, number]).fetchone() == (1,),
                ROW_SECONDS,
                f"the row of reading {number}",
            )

    def _call(self, task: str, **kwargs: str) -> None:
        self.project.inside(
            "worker", "celery", "-A", "tasks", "call", task, "--kwargs", json.dumps(kwargs), seconds=60
        )

    def _letters(self, payload: bytes) -> list[dict[str, Any]]:
        """The dead letters about a payload, read from this machine by the port that Kafka advertises."""
        encoded = base64.b64encode(payload).decode()
        bootstrap = f"127.0.0.1:{self.project.ports['HOST_KAFKA_PORT']}"
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "docker-test", "enable.auto.commit": False}
        )
        found = []
        try:
            partitions = consumer.list_topics(_LETTER_TOPIC, timeout=10).topics[_LETTER_TOPIC].partitions
            ends = {
                number: consumer.get_watermark_offsets(TopicPartition(_LETTER_TOPIC, number), timeout=10)[1]
                for number in partitions
            }
            for number, end in ends.items():
                consumer.assign([TopicPartition(_LETTER_TOPIC, number, 0)])
                read = 0
                while read < end:
                    message = consumer.poll(10)
                    if message is None or message.error():
                        raise Failed(f"the dead letters cannot be read: {message and message.error()}")
                    read = (message.offset() or 0) + 1
                    letter = json.loads(message.value() or b"{}")
                    if letter.get("payload_base64") == encoded:
                        found.append(letter)
        finally:
            consumer.close()
        return found


def _get(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - of this machine
        found: dict[str, Any] = json.load(answer)
        return found
