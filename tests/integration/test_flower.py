"""Flower, as an operator sees it in a browser: behind a login, with the tasks that the pipeline does."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from uuid import uuid4

import pytest
from selenium.webdriver import Remote
from selenium.webdriver.common.by import By

from compose.local.layout import PROJECT
from compose.local.stack import Stack
from tests.integration import chromium, fleet
from tests.integration.lag import wait_for_no_lag
from tests.integration.production import produce


@pytest.mark.parametrize("login", [None, "", "admin:"])
def test_flower_does_not_start_without_a_login(login: str | None) -> None:
    """Its page can end workers and run tasks; without a name and a password it says what to set."""
    environment = {name: value for name, value in os.environ.items() if name != "FLOWER_BASIC_AUTH"}
    if login is not None:
        environment["FLOWER_BASIC_AUTH"] = login
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", "flower", "--address=127.0.0.1", "--port=0"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "set FLOWER_BASIC_AUTH" in done.stderr


@pytest.fixture
def browser() -> Iterator[Remote]:
    """A browser of this test's own."""
    with chromium.running() as remote:
        yield remote


@pytest.fixture
def flower(pipeline: Stack) -> Iterator[str]:
    """Where Flower is, beside the pipeline."""
    pipeline.up(["flower"], prepare=False)
    home = f"127.0.0.1:{pipeline.env['FLOWER_PORT']}"
    try:
        fleet.wait_until(lambda: _status(home) != 0, 60, "Flower to listen")
        yield home
    finally:
        pipeline.stop("flower")


def test_flower_shows_workers_and_tasks_behind_a_login(pipeline: Stack, flower: str, browser: Remote) -> None:
    """Without a login nothing is shown; with it, workers and tasks that succeed, without payloads."""
    assert _status(flower) == 401
    run = f"private{uuid4().hex[:8]}"
    browser.get(f"http://{pipeline.env['FLOWER_BASIC_AUTH']}@{flower}/broker")
    queues = browser.find_element(By.TAG_NAME, "table").text.split()
    assert {"process", "db"} <= set(queues)

    def workers() -> bool:
        browser.get(f"http://{flower}/workers")
        text = browser.find_element(By.TAG_NAME, "body").text
        return "celery@" in text and "Online" in text

    fleet.wait_until(workers, 120, "the worker")
    # From here on Flower hears of every task.
    produce(pipeline, run, range(5000))
    wait_for_no_lag(pipeline)
    for task in ("tasks.process.process_part", "tasks.store.store_batch"):
        fleet.wait_until(
            lambda task=task: _shows_success(browser, flower, task),  # type: ignore[misc]
            60,
            f"{task} to have succeeded",
        )
    assert run not in browser.page_source
    assert "tasks.alerts.clock.tick" not in browser.page_source


def _status(home: str) -> int:
    """The HTTP status of a page, 0 while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://{home}/workers", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def _shows_success(browser: Remote, home: str, task: str) -> bool:
    """Whether the page of tasks has one that succeeded; its table is filled once, after it was loaded."""
    browser.get(f"http://{home}/tasks")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        rows: list[str] = browser.execute_script(
            "return [...document.querySelectorAll('#tasks-table tbody tr')].map(row => row.innerText)"
        )
        if any(task in row and "SUCCESS" in row for row in rows):
            return True
        time.sleep(0.1)
    return False
