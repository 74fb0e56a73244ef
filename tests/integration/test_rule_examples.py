"""The examples of the page of rules, end to end: by MQTT, from the document to what users are told."""

import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.layout import PROJECT
from compose.local.preparation import process_environment
from compose.local.procfile import read
from compose.local.stack import Stack
from ingest.cli.rules_page.examples import EXAMPLES
from ingest.cli.rules_page.scenes import SCENES, Event, Scene, command_of, told_of
from tasks.rules.change import Change
from tests.integration import fleet
from tests.integration.commands import sluice
from tests.integration.subscriber import Subscriber, subscriber

Database = psycopg.Connection[tuple[Any, ...]]

DEVICE = "fridge"
# In a scene that needs the clock, seconds and minutes are this much shorter.
SCALE = 0.01
ALL = (
    *(
        Scene(example.title, [example.rule], tuple(Event(s, DEVICE, one) for s, one in example.events))
        for example in EXAMPLES
    ),
    *SCENES,
)


@pytest.mark.usefixtures("beat")
def test_each_example_of_the_page_is_told_as_it_says(
    pipeline: Stack, database: Database, tmp_path: Path
) -> None:
    """All at once, each for a user of its own: the same changes, of the same alerts, with the same values."""
    scenes = {f"x{number}-{uuid4().hex[:6]}": _hastened(scene) for number, scene in enumerate(ALL)}
    operators = tmp_path / "rules.json"
    operators.write_text(json.dumps([rule for scene in ALL for rule in scene.operators]))
    try:
        assert sluice(pipeline, "rules", "import", "+", str(operators), "--yes").returncode == 0
        for user, scene in scenes.items():
            for name, devices in scene.groups.items():
                assert sluice(pipeline, "groups", "add", user, name, *devices).returncode == 0
        with worker_that_misses_who_never_came(pipeline), ThreadPoolExecutor(len(scenes)) as threads:
            played = {user: threads.submit(_play, pipeline, user, scene) for user, scene in scenes.items()}
        for user, scene in scenes.items():
            started, notices = played[user].result()
            expected = [change for _, changes in told_of(scene, started, user) for change in changes]
            _compare(scene, expected, notices)
    finally:
        database.execute("DELETE FROM user_configs WHERE user_id = '+' OR user_id = ANY(%s)", [list(scenes)])


def _play(stack: Stack, user: str, scene: Scene) -> tuple[datetime, list[dict[str, Any]]]:
    """Plays a scene; returns when it began by the readings' times, and the notices that the user got."""
    started = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    names = sorted({event.device for event in scene.events})
    with (
        psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as database,
        subscriber(stack, user) as listening,
    ):
        devices = {one.device: one for one in fleet.devices(stack, [(user, name) for name in names])}
        answer = listening.ask("config", {"rules": scene.rules})
        assert (answer["ok"], answer["rules"]) == (True, len(scene.rules)), (scene.title, answer)
        sent = told = 0
        for number, (event, changes) in enumerate(told_of(scene, started, user)):
            if event.reading is not None:
                time = (started + timedelta(seconds=event.second)).isoformat()
                payload = {"sequence_id": number, "time": time, **event.reading}
                devices[event.device].publish(json.dumps(payload).encode())
                devices[event.device].await_acknowledged()
                sent += 1
            else:
                _await_rows(database, user, sent)
                listening.told(told)
                if event.command is not None:
                    assert listening.ask("alerts/manage", command_of(scene, event)) == {"ok": True}
            told += len(changes)
            if event.reading is None:
                fleet.wait_until(partial(_has_heard, listening, told), 120, scene.title)
        _await_rows(database, user, sent)
        listening.told(told)
        fleet.disconnect(list(devices.values()))
        return started, listening.notices


def _compare(scene: Scene, expected: list[Change], notices: list[dict[str, Any]]) -> None:
    # A hastened scene goes on after its end: what is silent again is missed again.
    heard = notices[: len(expected)] if _needs_the_clock(scene) else notices
    for device in sorted({change.device_id for change in expected}):
        of_device = [change for change in expected if change.device_id == device]
        said = [notice for notice in heard if notice["device_id"] == device]
        documents = [json.loads(change.to_json()) for change in of_device]
        assert [_told(change, notice) for change, notice in zip(of_device, said, strict=True)] == [
            _told(change, document) for change, document in zip(of_device, documents, strict=True)
        ], scene.title
        assert _numbered(said) == _numbered(documents), scene.title
    assert len(heard) == len(expected), scene.title


def _told(change: Change, notice: dict[str, Any]) -> dict[str, Any]:
    """The content of a notice, but for the times that a clock or a command has, and ids."""
    left_out = {"alert_id"}
    if change.position is None:
        left_out |= {"time"}
    if change.operator == "absent":
        left_out |= {"time", "first_seen", "last_seen"}
    if change.status == "SNOOZED":
        left_out |= {"reason"}
    return {name: value for name, value in notice.items() if name not in left_out}


def _numbered(notices: list[dict[str, Any]]) -> list[int]:
    """The notices of one alert."""
    ids = [notice["alert_id"] for notice in notices]
    return [ids.index(one) for one in ids]


def _needs_the_clock(scene: Scene) -> bool:
    return any(event.reading is None and event.command is None for event in scene.events)


def _hastened(scene: Scene) -> Scene:
    """The scene, in seconds instead of minutes if it needs the clock."""
    if not _needs_the_clock(scene):
        return scene
    rules = [_scaled(rule, "for_seconds") for rule in scene.rules]
    rules = [
        rule | ({"flapping": _scaled(rule["flapping"], "minutes")} if "flapping" in rule else {})
        for rule in rules
    ]
    events = tuple(
        event._replace(
            second=event.second * SCALE, command=event.command and _scaled(event.command, "duration_minutes")
        )
        for event in scene.events
    )
    return scene._replace(rules=rules, events=events)


def _scaled(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return fields | ({name: fields[name] * SCALE} if name in fields else {})


def _has_heard(listening: Subscriber, count: int) -> bool:
    return len(listening.notices) >= count


def _await_rows(database: Database, user: str, count: int) -> None:
    """Returns when so many readings of the user are stored, and therefore judged."""
    rows = "SELECT count(*) FROM raw_telemetry WHERE user_id = %s"
    fleet.wait_until(lambda: database.execute(rows, [user]).fetchone() == (count,), 60, f"{count} rows")


@contextmanager
def worker_that_misses_who_never_came(stack: Stack) -> Iterator[None]:
    """One more worker, with the operator's setting for it."""
    environment = {**process_environment(stack.env), "ABSENT_NEVER_SEEN": "true", "METRICS_PORT": "0"}
    command = [*shlex.split(read(PROJECT / "Procfile")["worker"]), "--hostname=never-seen@%h"]
    process = subprocess.Popen(command, cwd=PROJECT, env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
