"""Thousands of alerts to a webhook that often fails, while the worker of the channels is killed repeatedly.

`python -m tests.chaos.channels` starts servers of its own; with `--alerts` and `--kills` it takes others than
10,000 and 3. It fails unless every change is confirmed, under its own key, in the order of its device, and
confirmed twice at most once for each kill.
"""

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter

import psycopg

from compose.local.preparation import process_environment
from compose.local.procfile import read
from compose.local.stack import Stack
from tasks import deliver_channels
from tests.conftest import PROJECT, forget_servers
from tests.integration.changes import flap, write_tables
from tests.integration.fleet import wait_until
from tests.integration.receivers import Answer, http_receiver

DEVICES = 10
SETTINGS = {
    "CHANNEL_SCHEMES": "http",
    "CHANNEL_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CHANNEL_MESSAGES_PER_MINUTE": "1000000",
}
FAILURES = (*[Answer(500), Answer(503), Answer(404)] * 3, Answer(429, (("Retry-After", "1"),)))


def main() -> None:
    """Runs it and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=10_000, help="changes of alerts")
    parser.add_argument("--kills", type=int, default=3, help="how often the worker is killed")
    parser.add_argument("--seed", type=int, default=1, help="of the failures")
    chosen = parser.parse_args()
    stack = Stack(PROJECT / ".local" / "test-channels", free_ports=True, tied=True)
    shutil.rmtree(stack.layout.base, ignore_errors=True)
    stack.up(())
    try:
        os.environ.update({**stack.env, **SETTINGS})
        forget_servers()
        print(run(stack, chosen.alerts, chosen.kills, chosen.seed))  # noqa: T201 - for a person
    finally:
        stack.down()


def run(stack: Stack, alerts: int, kills: int, seed: int) -> str:
    """The figures, in a line. Raises `AssertionError`."""
    chance, user = random.Random(seed), uuid.uuid4().hex[:8]

    def answer(_path: str, _number: int) -> Answer:
        return chance.choice(FAILURES) if chance.random() < 0.3 else Answer()

    with (
        http_receiver(answer) as receiver,
        psycopg.connect(stack.env["DATABASE_DIRECT_URL"], autocommit=True) as database,
    ):
        channels = [f"c{number}" for number in range(4)]
        for name in channels:
            database.execute(
                "INSERT INTO channels (user_id, name, kind, target) VALUES (%s, %s, 'webhook', %s)",
                [user, name, receiver.url(f"/{name}")],
            )
        for device in range(DEVICES):
            flap(user, f"d{device}", alerts // len(channels) // DEVICES // 2)
        write_tables()

        def waiting() -> int:
            # Beat's part, which has what is due looked for.
            deliver_channels.watch()
            ((number,),) = database.execute(
                "SELECT count(*) FROM channel_deliveries WHERE state = 'waiting'"
            ).fetchall()
            return int(number)

        total, began = waiting(), time.monotonic()
        worker = _started(stack)
        for kill in range(kills):
            left = total - total * (kill + 1) // (kills + 1)
            wait_until(lambda left=left: waiting() <= left, 900, "some to be told")  # type: ignore[misc]
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            worker = _started(stack)
        wait_until(lambda: waiting() == 0, 900, "all to be told")
        seconds = time.monotonic() - began
        worker.terminate()
        worker.wait(60)
        states = database.execute("SELECT state, count(*) FROM channel_deliveries GROUP BY state").fetchall()
        assert states == [("sent", total)], states
        told = [call for call in receiver.calls if call.status == 200]
        keys = Counter((call.path, call.key) for call in told)
        again = sum(count - 1 for count in keys.values())
        assert len(keys) == total, f"{len(keys)} of {total}"
        assert again <= kills * len(channels)
        for name in channels:
            for device in range(DEVICES):
                own = [
                    one for one in told if (one.path, one.notice["device_id"]) == (f"/{name}", f"d{device}")
                ]
                ids = list(dict.fromkeys(one.key for one in own))
                assert [key.split("/")[1] for key in ids] == ["TRIGGERED", "RESOLVED"] * (len(ids) // 2)
        return (
            f"{total} messages by {len(channels)} channels, {len(receiver.calls)} requests,"
            f" {1 - len(told) / len(receiver.calls):.0%} of them failed, {kills} kills: each confirmed,"
            f" {again} twice under the same key, in {seconds:.0f} s"
        )


def _started(stack: Stack) -> subprocess.Popen[bytes]:
    command = shlex.split(read(PROJECT / "Procfile")["notify"])
    environment = {**process_environment(stack.env), **SETTINGS}
    return subprocess.Popen(command, cwd=PROJECT, env=environment, start_new_session=True)


if __name__ == "__main__":
    main()
