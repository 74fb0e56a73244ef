"""Hostile requests by MQTT, as users and devices could send them, to a stack of every domain that ships."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from ingest.admin.accounts.provision import Credential
from tests.chaos import options, raw_mqtt
from tests.chaos.hostile_requests import Hostile, hostile_requests
from tests.chaos.raw_mqtt import Raw
from tests.conftest import PROCESSES
from tests.integration import fleet
from tests.integration.deployment import serving
from tests.integration.lag import wait_for_no_lag
from tests.integration.production import counter
from tests.integration.samples import MODULES, SAMPLES

# A user's requests are done one after the other.
USERS = 20 if options.REQUESTS > 1000 else 6
DEVICE = "fuzz-0"
# Fewer than REQUESTS_PER_USER, so that most requests reach a worker.
WINDOW = 60
# An answer may wait for those of all others, on a machine that does something else as well.
ANSWER_SECONDS = 300.0
RULE = {"key": "temperature", "operator": ">", "threshold": 30, "message": "hot"}
RULES = json.dumps([{**RULE, "id": f"r{number}"} for number in range(3)]).encode()
# A traceback alone is no trouble: the autoscaler ends children in the middle of a task.
TROUBLE = ("request_failed", "message_condemned", "(SIGSEGV)", "(SIGABRT)", "(SIGKILL)")
TOPICS = {"config": "config", "manage": "alerts/manage", "rules": "rules/get", "alerts": "alerts/get"}
ANSWERS = ("config/status", "alerts/manage/status", "rules", "alerts/open", "responses/#")
# Where answers are wanted: the own topics, those of another user, of a request, of a reading, and none.
WANTED = (
    *("users/{user}/responses/a", "users/{user}/elsewhere", "users/desk/responses/a", "users/{user}/config"),
    *("users/{user}/rules/get", f"users/{{user}}/devices/{DEVICE}/telemetry", "$SYS/x", "é", ""),
)


@pytest.fixture(scope="module")
def deployment(stack: Stack) -> Iterator[Stack]:
    """All domains that ship, in one deployment."""
    with serving(stack, *MODULES) as running:
        yield running


class Asker:
    """A user's program that asks for much, and counts its answers."""

    def __init__(self, stack: Stack, user: str, credential: Credential) -> None:
        self.user = user
        self.asked = 0
        self.answers: Counter[str] = Counter()
        # An id that no hostile CONNECT takes: who has another's is another matter.
        self._client: Client = fleet.connect(stack, credential, uuid4().hex)
        self._client.on_message = self._on_message
        subscribed: list[int] = []
        self._client.on_subscribe = lambda *_: subscribed.append(1)
        self._client.subscribe([(f"users/{user}/{topic}", 1) for topic in ANSWERS])
        fleet.wait_until(lambda: bool(subscribed), 30, "the subscription")

    def ask(self, request: Hostile) -> None:
        """Publishes the request, once there are not too many without an answer."""
        self.await_answers(WINDOW)
        self.asked += 1
        wanted = WANTED[self.asked % len(WANTED)].format(user=self.user)
        properties = None
        if wanted:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ResponseTopic = wanted
            properties.CorrelationData = wanted.encode() * 50
        topic = f"users/{self.user}/{TOPICS[request.way]}"
        self._client.publish(topic, request.payload, qos=request.qos, properties=properties)

    def await_answers(self, missing: int = 0) -> None:
        """Returns when at most so many answers are missing."""
        fleet.wait_until(
            lambda: self.asked - self.answers.total() <= missing, ANSWER_SECONDS, f"answers to {self.user}"
        )

    def close(self) -> None:
        """Ends the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        answer: dict[str, Any] = json.loads(message.payload)
        bug = any("internal error" in error["message"] for error in answer.get("errors", ()))
        self.answers["bug" if bug else "done" if answer["ok"] else "refused"] += 1


@pytest.mark.timeout(7200)
def test_each_hostile_request_is_answered_or_refused_and_nobody_dies(
    deployment: Stack, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Whatever users and devices send by MQTT, each request has its answer, each message its outcome."""
    users = [f"asker-{options.SEED}-{number}" for number in range(USERS - 1)] + ["desk"]
    devices = fleet.devices(deployment, [(user, DEVICE) for user in users])
    credentials = [provision.provision(database, accounts.user(user)) for user in users]
    askers = [Asker(deployment, user, one) for user, one in zip(users, credentials, strict=True)]
    pids = {name: deployment.pid(name) for name in PROCESSES}
    received, failed = counter(deployment, "received"), _failures(deployment)
    begun = time.monotonic()
    sent: Counter[str] = Counter()
    for asker in askers:
        # For commands that can be obeyed.
        asker.ask(Hostile("config", 0, RULES))
        sent["config"] += 1
    for count, request in enumerate(hostile_requests(options.SEED, options.REQUESTS, users, DEVICE)):
        if time.monotonic() - begun > options.REQUEST_SECONDS:
            break
        if count and count % 1000 == 0:
            print(f"{count:,} requests after {time.monotonic() - begun:.0f} s", flush=True)  # noqa: T201
        number = request.number
        if request.way in TOPICS:
            askers[number].ask(request)
            sent[request.way] += 1
        elif request.way == "telemetry":
            domain = SAMPLES[request.sample].domain
            topic = domain.topic_of(users[number], DEVICE)
            # The market belongs to the desk.
            number = number if topic else USERS - 1
            devices[number].publish(request.payload, topic or domain.topic_of(users[number], DEVICE))
            sent[request.way] += 1
            if len(devices[number].pending) >= 200:
                devices[number].await_acknowledged(ANSWER_SECONDS)
        else:
            sent[_rough(deployment, request, credentials[number])] += 1
    for device in devices:
        device.await_acknowledged(ANSWER_SECONDS)
    for asker in askers:
        asker.await_answers()
    for sample in SAMPLES:
        wait_for_no_lag(deployment, sample.domain.qualified("iot-stream"))
    seconds = time.monotonic() - begun
    fleet.disconnect(devices)
    answers: Counter[str] = sum((asker.answers for asker in askers), Counter())
    for asker in askers:
        asker.close()
    print(f"seed {options.SEED}: {sent.total():,} requests in {seconds:.0f} s, {dict(sent)}, {dict(answers)}")  # noqa: T201
    assert answers.total() == sum(sent[way] for way in TOPICS)
    assert answers["bug"] == 0
    assert answers["done"] > 0
    assert counter(deployment, "received") - received == sent["telemetry"]
    assert {name: deployment.pid(name) for name in PROCESSES} == pids
    assert _failures(deployment) == failed


def _rough(stack: Stack, request: Hostile, credential: Credential) -> str:
    """Sends what no client library does, to topics that the user may not publish to; what became of it."""
    login = credential.username.encode(), credential.password.encode()
    raw = Raw(stack.env)
    try:
        if request.way == "connect":
            return "let in" if raw.ask(raw_mqtt.connect(request.raw, *login)) else "turned away"
        assert raw.ask(raw_mqtt.connect(b"", *login))
        granted = raw.ask(raw_mqtt.publish(request.raw, request.payload))
    finally:
        raw.close()
    assert not granted, request.raw
    return "denied"


def _failures(stack: Stack) -> dict[str, int]:
    logs = "".join(stack.log(name) for name in PROCESSES)
    return {word: logs.count(word) for word in TROUBLE}
