"""A worker that stops itself in the middle of its work, as one that is suspended: `python -m … NAME USER`.

NAME is `commit`, between deciding on a reading of 90 degrees and committing the alert, or `rebuild`, between
reading the tables and writing the states.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tasks import registry
from tasks.alerts import rebuild, state_store
from tasks.alerts.evaluate import evaluate
from tasks.batch.messages import Message
from tasks.domain import routing
from tasks.rebuild import rebuild_all
from tasks.rows.validate import Received


def stopping(module: Any, name: str) -> None:
    """Has the next call of the function stop this process first."""
    function: Callable[..., Any] = getattr(module, name)

    def stop(*arguments: Any) -> Any:
        setattr(module, name, function)
        os.kill(os.getpid(), signal.SIGSTOP)
        return function(*arguments)

    setattr(module, name, stop)


def main(name: str, user: str) -> None:
    """Does the work; continues after SIGCONT."""
    if name == "rebuild":
        stopping(rebuild, "_change")
        rebuild_all()
        return
    stopping(state_store, "_commit")
    domain, now_ms = registry.default(), time.time_ns() // 1_000_000
    topic = f"users/{user}/devices/d/telemetry"
    payload = json.dumps({"sequence_id": 1, "temperature": 90.0}).encode()
    reading = domain.validate(topic, payload, now_ms, routing.limits())
    evaluate(domain, [Received(Message(0, 1, now_ms, topic, "", 0, payload), reading)])


if __name__ == "__main__":
    main(*sys.argv[1:])
