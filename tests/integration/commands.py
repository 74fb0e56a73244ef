"""The operator's commands and Celery's, started as a person starts them, and those of whole pages."""

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from compose.local.stack import Stack
from tasks.app import app
from tests.conftest import PROJECT
from tests.doc_commands import script
from tests.integration import fleet, forked


def sluice(
    stack: Stack, *arguments: str, stdin: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Runs `sluice`, with further settings in the environment."""
    return _run(stack, "ingest.cli", *arguments, stdin=stdin, **settings)


def celery(stack: Stack, *arguments: str) -> str:
    """Runs `celery -A tasks` and returns what it prints; fails when it fails."""
    done = _run(stack, "celery", "-A", "tasks", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def call(stack: Stack, task: str, **kwargs: Any) -> str:
    """Calls a task by `celery call`; returns its id."""
    return celery(stack, "call", task, "--kwargs", json.dumps(kwargs)).strip()


def report(stack: Stack, task_id: str, seconds: float = 90) -> dict[str, Any]:
    """The result of a task; fails when it fails, or takes longer. Needs the fixture `in_process`."""
    result = app.AsyncResult(task_id)
    fleet.wait_until(result.ready, seconds, f"the task {task_id}")
    found = result.get()
    assert isinstance(found, dict), stack.layout
    return found


def run_page(stack: Stack, page: str, values: Mapping[str, str] | None = None) -> str:
    """Runs a page's commands as a new user would, one after the other; returns what they printed."""
    done = subprocess.run(
        ["sh", "-c", script(PROJECT / page, stack.layout.base, values)],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "SLUICE_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _run(stack: Stack, *arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLUICE_ENV_FILE": str(stack.layout.env), **settings}
    return forked.run(*arguments, env=environment, cwd=PROJECT, stdin=stdin)
