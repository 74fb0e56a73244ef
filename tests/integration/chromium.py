"""A real browser, for pages as people see them."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from selenium.webdriver import ChromeOptions, Remote

from compose.local import ports
from tests.integration import enclosure, fleet

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--no-proxy-server", "--user-data-dir=/tmp/profile", "--window-size=1600,1000"),
)


@contextmanager
def running() -> Iterator[Remote]:
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
