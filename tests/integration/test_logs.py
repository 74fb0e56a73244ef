"""The processes' logs while they work: JSON lines with an event each, no payload, no secret."""

import json
from uuid import uuid4

from compose.local.stack import Stack
from tests.conftest import PROCESSES
from tests.integration import fleet
from tests.integration.lag import wait_for_no_lag


def test_logs_are_json_without_payloads_and_secrets(pipeline: Stack) -> None:
    """Good messages, bad ones, outages that libraries complain about: none of it reveals anything private."""
    marks = {name: len(pipeline.log(name)) for name in PROCESSES}
    private = uuid4().hex
    (device,) = fleet.devices(pipeline, [(uuid4().hex[:8], "d")])
    for number in range(50):
        device.publish(json.dumps({"sequence_id": number, "note": private}).encode())
        device.publish(json.dumps({"sequence_id": f"bad {private}", "note": private}).encode())
    device.await_acknowledged()
    wait_for_no_lag(pipeline)
    pipeline.restart("redis")
    pipeline.restart("postgres")
    device.publish(json.dumps({"sequence_id": 1000, "note": private}).encode())
    device.await_acknowledged()
    wait_for_no_lag(pipeline)
    fleet.disconnect([device])
    secrets = [path.read_text().strip() for path in pipeline.layout.secret("x").parent.iterdir()]
    assert len(secrets) >= 4
    entries = 0
    for name in PROCESSES:
        text = pipeline.log(name)[marks[name] :]
        assert private not in text, f"{name} logs payloads"
        assert not [secret for secret in secrets if secret in text], f"{name} logs a secret"
        for line in text.splitlines():
            entry = json.loads(line)
            assert {"event", "level", "timestamp", "logger"} <= entry.keys(), line
            assert " " not in entry["event"], line
            entries += 1
    assert entries > 5
