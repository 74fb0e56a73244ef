"""A worker's main process waits for nothing that may not come."""

import threading
from typing import Any

import pytest
from kombu import Exchange, Queue

from tasks.app import app

pytestmark = pytest.mark.usefixtures("on_servers")


def test_an_event_of_a_closed_connection_does_not_stop_the_worker() -> None:
    """Its number may be that of the new connection for commands to workers, which has nothing to read yet."""
    channel: Any
    with app.connection_for_read() as connection, connection.channel() as channel:
        commands = Queue("deaf", Exchange("deaf", type="fanout"), channel=channel, auto_delete=True)
        commands.declare()
        commands.consume("deaf", print)
        channel.connection.cycle._register_LISTEN(channel)
        assert channel.subclient.connection.can_read(timeout=10)
        channel._receive()  # that it is subscribed
        read = threading.Thread(target=channel._receive, daemon=True)
        read.start()
        read.join(10)
        assert not read.is_alive()
