"""Flower, as an operator sees it in a browser: behind a login, with the tasks that the pipeline does."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from uuid import uuid4

import pytest
from selenium.webdriver import ChromeOptions, Remote
from selenium.webdriver.common.by import By

from compose.local import ports
from compose.local.stack import Stack
from tests.integration import enclosure, fleet
from tests.integration.test_end_to_end import wait_for_no_lag
from tests.integration.test_recovery import produce

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--no-proxy-server", "--user-data-dir=/tmp/profile", "--window-size=1600,1000"),
)


@pytest.fixture
def browser() -> Iterator[Remote]:
    """Chromium without a window, and without a past."""
    port = ports.free({})["METRICS_PORT"]
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ARGUMENTS:
        options.add_argument(argument)

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    with enclosure.running(["chromedriver", f"--port={port}"]):
        fleet.wait_until(answers, 60, "the browser's driver")
        remote = Remote(f"http://127.0.0.1:{port}", options=options)
        try:
            yield remote
        finally:
            remote.quit()


def test_flower_shows_workers_and_tasks_behind_a_login(pipeline: Stack, browser: Remote) -> None:
    """Who has no login sees nothing; who has it sees workers and tasks that succeed, without payloads."""
    pipeline.up(["gateway", "bridge", "control", "worker", "flower"])
    home = f"127.0.0.1:{pipeline.env['FLOWER_PORT']}"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{home}/workers", timeout=10)
    assert refused.value.code == 401
    run = f"private{uuid4().hex[:8]}"
    produce(pipeline, run, range(5000))
    wait_for_no_lag(pipeline)
    browser.get(f"http://{pipeline.env['FLOWER_BASIC_AUTH']}@{home}/workers")

    def text(path: str) -> str:
        browser.get(f"http://{home}/{path}")
        return browser.find_element(By.TAG_NAME, "body").text

    fleet.wait_until(lambda: "celery@" in text("workers") and "Online" in text("workers"), 60, "the worker")
    for task in ("tasks.process.process_part", "tasks.store.store_batch"):

        def succeeded(task: str = task) -> bool:
            return any(task in row and "SUCCESS" in row for row in _rows(browser, f"http://{home}/tasks"))

        fleet.wait_until(succeeded, 60, f"{task} to have succeeded")
    assert run not in browser.page_source
    pipeline.stop("flower")


def _rows(browser: Remote, page: str) -> list[str]:
    browser.get(page)
    table: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#tasks-table tbody tr')].map(row => row.innerText)"
    )
    return table
