"""The memory of quiet devices' newest readings, by the time of their arrival."""

import time
from uuid import uuid4

import pytest

from tasks.alerts import newest
from tasks.registry import default
from tasks.rules.order import Newest
from tasks.servers.redis_client import client

HOUR_MS = 3_600_000


@pytest.mark.usefixtures("in_process")
def test_what_comes_again_is_known_by_a_gateway_whose_clock_is_an_hour_wrong() -> None:
    """Or was; what comes for the first time is compared with what came shortly before it alone."""
    device, known = (uuid4().hex[:8], "d"), Newest(5, 0, (1,))
    now_ms = round(time.time() * 1000)
    commands = client().pipeline(transaction=False)
    newest.note(commands, default(), {device: known}, now_ms)
    commands.execute()
    for at_ms in (now_ms - HOUR_MS, now_ms, now_ms + HOUR_MS):
        assert newest.recall(default(), [device], at_ms, redelivered=True) == {device: known}
    assert newest.recall(default(), [device], now_ms - HOUR_MS) == {}
