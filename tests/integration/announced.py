"""Rules that a test changes by SQL, as any SQL client would."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from compose.local.stack import Stack
from tasks.servers.redis_client import RULES_VERSION
from tests.integration.fleet import wait_until


@contextmanager
def announced(stack: Stack) -> Iterator[None]:
    """The block changes rules; afterwards every worker judges by them. Needs the control process."""
    with redis.Redis.from_url(stack.env["REDIS_URL"]) as client:
        known = client.get(RULES_VERSION)
        yield
        wait_until(lambda: client.get(RULES_VERSION) != known, 60, "the rules to be announced")
    time.sleep(1.1)  # what a worker has read is a second old at most
