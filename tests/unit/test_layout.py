"""The folders show what runs: processes and tasks at the front, what they are made of in the rooms behind."""

import inspect
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tasks import app, calls
from tests.conftest import PROJECT

# Modules that tasks and processes share, and that hold no task.
GROUND = {"__init__", "app", "calls", "errors", "registry", "telemetry"}
MOST_OF_THE_BRIDGE = 42


def front(folder: str) -> set[str]:
    """The names of the Python files in a folder itself."""
    return {path.stem for path in (PROJECT / folder).glob("*.py")}


def test_each_file_at_the_front_of_tasks_has_tasks() -> None:
    """`ls tasks/*.py` is what `celery inspect registered` shows, and the ground files."""
    app.loader.import_default_modules()
    modules = {task.__module__ for name, task in app.tasks.items() if not name.startswith("celery.")}
    assert {f"tasks.{name}" for name in front("tasks") - GROUND} == modules
    assert len(front("tasks")) <= 22


def test_each_file_at_the_front_of_ingest_is_a_process() -> None:
    """`ls ingest/*.py` is the Procfile's part of `python -m ingest.…`."""
    procfile = (PROJECT / "Procfile").read_text()
    named = {word.removeprefix("ingest.") for word in procfile.split() if word.startswith("ingest.")}
    assert front("ingest") - {"__init__"} == named


def test_no_file_is_long() -> None:
    """A file that does not fit into 400 lines is two things."""
    lines = {path: len(text.splitlines()) for path, text in python_files().items()}
    assert {path: number for path, number in lines.items() if number > 400} == {}


def test_no_room_is_crowded() -> None:
    """A folder that does not fit into 25 files is two rooms."""
    rooms = Counter(path.rpartition("/")[0] for path in python_files() if not path.startswith("tests/"))
    assert {room: number for room, number in rooms.items() if number > 25} == {}


def test_no_test_module_imports_another() -> None:
    """Code that several tests need is in a module without tests."""
    imports = re.compile(
        r"^\s*(from|import) [\w.]*\btest_|^\s*from tests[\w.]* import .*\btest_", re.MULTILINE
    )
    tests = {path: text for path, text in python_files().items() if path.startswith("tests/")}
    assert [path for path, text in tests.items() if imports.search(text)] == []


def python_files() -> dict[str, str]:
    """The text of each, by its path."""
    folders = ("compose", "examples", "ingest", "tasks", "tests")
    paths = [
        *PROJECT.glob("*.py"),
        *(path for folder in folders for path in (PROJECT / folder).rglob("*.py")),
    ]
    return {str(path.relative_to(PROJECT)): path.read_text() for path in paths}


def test_the_bridge_is_thin() -> None:
    """It dispatches tasks, and imports nothing of what they do."""
    code = (
        "import sys, ingest.bridge;"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('ingest', 'tasks')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert len(done.stdout.split()) <= MOST_OF_THE_BRIDGE, done.stdout


SENT: list[tuple[Callable[..., calls.Call], dict[str, Any]]] = [
    (calls.process_part, {"batch": "b", "part": 0}),
    (calls.process_part, {"batch": "b", "part": 0, "verdict": ("Unexpected", "why"), "blind": True}),
    (calls.store_batch, {"batch": "b", "parts": 1, "total": 1, "bridge": "x", "domain": ""}),
    (
        calls.set_rules,
        {"user_id": "u", "document": b"{}", "request": "r", "control": "c", "retained": False},
    ),
    (calls.manage_alert, {"user_id": "u", "document": b"{}", "request": "r", "control": "c", "at_ms": 1}),
    (
        calls.manage_alert,
        {"user_id": "u", "document": b"{}", "request": "r", "control": "c", "at_ms": 1, "by": "operator/x"},
    ),
    (
        calls.read_back,
        {"kind": "alerts", "user_id": "u", "document": b"", "request": "r", "control": "c"},
    ),
    (calls.apply_rules, {"users": None}),
    (calls.deliver_mqtt, {}),
    (calls.deliver_database, {}),
    (calls.deliver_channels, {}),
    (calls.try_channel, {"user_id": "u", "name": "n", "request": "r", "control": "c"}),
]


@pytest.mark.parametrize(("call", "arguments"), SENT, ids=lambda value: getattr(value, "__name__", None))
def test_a_call_fits_its_task(call: Callable[..., calls.Call], arguments: dict[str, Any]) -> None:
    """The task exists and takes the arguments; nobody waits for its result, as for the task itself."""
    app.loader.import_default_modules()
    message = call(**arguments)
    task = app.tasks[str(message.task)]
    results: list[Any] = [[]] if call is calls.store_batch else []
    bound = inspect.signature(task.run).bind(*results, **message.kwargs)
    assert bound.arguments.keys() >= {name for name, value in arguments.items() if value is not None}
    assert message.options == {"ignore_result": app.conf.task_ignore_result}


def test_what_waits_for_the_database_goes_by_its_own_queue() -> None:
    """No matter who sends it, by name or as a task: so an outage leaves hands free for the rest."""
    app.loader.import_default_modules()
    queues = {
        name: app.amqp.router.route({}, name)["queue"].name
        for name in app.tasks
        if not name.startswith("celery.")
    }
    assert {name for name, queue in queues.items() if queue == "db"} == {
        *("tasks.store.store_batch", "tasks.config.set_rules", "tasks.notify.deliver_database"),
        *("tasks.replay.dead_letters", "tasks.replay.offsets", "tasks.replay.times"),
        *("tasks.replay.go_on", "tasks.replay.watch_unhandled"),
        *("tasks.devices.register", "tasks.devices.tidy", "tasks.config.read_back"),
        *("tasks.channels.watch", "tasks.channels.tidy"),
        *("tasks.rollups.make", "tasks.rollups.expire"),
    }
    # Tasks that wait for servers that users choose have workers of their own.
    assert {name for name, queue in queues.items() if queue == "notify"} == {
        "tasks.channels.deliver",
        "tasks.channels.test",
    }
    assert set(queues.values()) == {"db", "process", "notify"}


def test_every_call_is_held_against_its_task() -> None:
    """None of `tasks.calls` is missing above."""
    made = {
        name
        for name, value in inspect.getmembers(calls, inspect.isfunction)
        if value.__module__ == calls.__name__ and not name.startswith("_")
    }
    assert made == {call.__name__ for call, _ in SENT}
