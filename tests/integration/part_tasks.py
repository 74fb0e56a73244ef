"""`process` and `store` called as a bridge would, on a part of the test's own."""

import json
import time
from typing import Any
from uuid import uuid4

from tasks.batch import messages as packing
from tasks.batch.messages import Message, Part
from tasks.process import process_part
from tasks.servers.redis_client import client, done_key, lease_key, part_key
from tasks.store import store_batch
from tests.integration.changes import Database

BRIDGE = "bridge-of-lost-memory"
RULES = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}]


def hot_user(database: Database) -> str:
    """A user of the test's own, with these rules."""
    user = uuid4().hex[:8]
    database.execute("INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)", [user, json.dumps(RULES)])
    return user


def send(user: str, *temperatures: float, first_offset: int = 0) -> tuple[str, int]:
    """A batch of one device's readings, as the bridge sends it: its id and the number of its messages."""
    batch = f"0-{uuid4().hex[:12]}"
    topic, now_ms = f"users/{user}/devices/d/telemetry", time.time_ns() // 1_000_000
    messages = [
        Message(
            0,
            first_offset + number,
            now_ms,
            topic,
            "",
            0,
            json.dumps({"sequence_id": first_offset + number, "temperature": temperature}).encode(),
        )
        for number, temperature in enumerate(temperatures)
    ]
    client().delete(done_key(BRIDGE))
    client().set(part_key(batch, 0), packing.pack_part(Part("", {0: first_offset}, messages)))
    client().set(lease_key(batch), BRIDGE, ex=60)
    return batch, len(messages)


def work(batch: str, total: int) -> str:
    """Both stages of the batch; what the bridge hears of it."""
    store_batch(process_part(batch, 0), batch, 1, total, BRIDGE)
    return report(batch)


def report(batch: str) -> str:
    """The reports on the batch that the bridge gets."""
    heard: Any = client().blpop([done_key(BRIDGE)], timeout=30)
    name, said = heard[1].decode().split()
    assert name == batch
    return str(said)
