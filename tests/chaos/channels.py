"""Ten thousand alerts to one webhook that fails often, while everything on their way is killed.

`python -m tests.chaos.channels` starts servers of its own. Devices send readings that begin and end
alerts, at the pace at which the webhook takes them. It fails unless the webhook has confirmed each alert's
TRIGGERED, with `--resolved` its RESOLVED too, in the order of the device, each under a key of its own; again
under the same key at most once for each kill that docs/channels.md names as a reason.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from compose.local.stack import Stack
from tasks import deliver_channels
from tests.chaos.faults import Kill
from tests.chaos.own_workers import QUEUES, OwnWorkers
from tests.chaos.place import Place
from tests.chaos.webhook import Change, Judgement, Webhook
from tests.conftest import PROJECT, forget_servers
from tests.integration import fleet

PROCESSES = ("gateway", "bridge", "control", "beat")
VICTIMS = (*QUEUES, "beat", "bridge", "gateway", "postgres", "pgbouncer", "redis", "kafka")
# The sender dies between the request and the note of its answer, or what takes the note does.
MAY_REPEAT = {"notify", "postgres", "pgbouncer"}
# A message that failed holds back those behind it of the same device: of few, the webhook would get little.
DEVICES = 200
# Changes on their way: far fewer than may wait, so that the rest comes while things are killed.
MOST_ON_THEIR_WAY = 1_000
# Pauses double: one message that fails for the tenth time would wait for half an hour.
MOST_FAILURES = 7
# Beat has what is due looked for every five seconds, of which the run, after each rest of the webhook, would
# have too many; so it looks too, but not for so long after beat was killed.
LOOK_SECONDS, BEATS_OWN_SECONDS = 0.5, 30.0
SETTINGS = {
    "CHANNEL_SCHEMES": "http",
    "CHANNEL_ALLOWED_NETWORKS": "127.0.0.0/8",
    "CHANNEL_MESSAGES_PER_MINUTE": "1000000",
}
RULES = [{"key": "temperature", "operator": ">", "threshold": 80, "message": "hot"}]
HOT = 1_000.0
PROGRESS_SECONDS = 15.0
Say = Callable[[str], object]


@dataclass
class Outcome:
    """The figures of a run, and what was not as promised."""

    figures: dict[str, str]
    problems: list[str] = field(default_factory=list)


def main() -> None:
    """Runs it and prints a table; exits with 1 if anything is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=10_000, help="each begins and ends")
    parser.add_argument("--kills", type=int, default=len(VICTIMS), help="the least is one of each")
    parser.add_argument("--resolved", action="store_true", help="the webhook gets RESOLVED, too")
    parser.add_argument("--seed", type=int, default=1, help="of the failures and of the order of the kills")
    parser.add_argument("--seconds", type=float, default=2_400, help="the longest that it may take")
    chosen = parser.parse_args()
    # Or the workers would be left when a time limit ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    stack = Stack(PROJECT / ".local" / "test-channels", free_ports=True, tied=True)
    shutil.rmtree(stack.layout.base, ignore_errors=True)
    console = Console(width=120)
    order = [*VICTIMS] * (chosen.kills // len(VICTIMS) + 1)
    order = random.Random(chosen.seed).sample(VICTIMS, len(VICTIMS)) + order
    stack.up(PROCESSES)
    try:
        os.environ.update({**stack.env, **SETTINGS})
        forget_servers()
        run = Run(stack, chosen.alerts, chosen.seed, console.print)
        run.statuses = ("TRIGGERED", "RESOLVED") if chosen.resolved else ("TRIGGERED",)
        outcome = run.run(order[: chosen.kills], chosen.seconds)
    finally:
        stack.down()
    table = Table("", "", title=f"One webhook that fails often, seed {chosen.seed}", show_header=False)
    for name, figure in outcome.figures.items():
        table.add_row(name, figure)
    console.print(table)
    for problem in outcome.problems:
        console.print(f"NOT AS PROMISED: {problem}")
    sys.exit(bool(outcome.problems))


class Run:
    """One run: a user with a webhook, devices with a rule, and three workers beside the stack's processes."""

    def __init__(
        self, stack: Stack, alerts: int, seed: int, say: Say, most_failures: int = MOST_FAILURES
    ) -> None:
        self._place = Place(stack, {}, stack.env["REDIS_URL"], stack.env["DATABASE_DIRECT_URL"])
        self._alerts, self._say = alerts, say
        self._chance = random.Random(seed)
        self._webhook = Webhook(seed, most_failures)
        self.user = uuid.uuid4().hex[:8]
        self._names = [f"d{number}" for number in range(min(DEVICES, alerts))]
        self._fed = 0
        self._states: Counter[str] = Counter()
        self._killed: list[str] = []
        self._looks_at = 0.0
        self.statuses: Sequence[str] = ("TRIGGERED", "RESOLVED")
        """What the webhook is told."""
        self.after_kill: Callable[[str], object] = lambda _: None
        """Called after each kill."""

    def run(self, kills: Sequence[str], seconds: float) -> Outcome:
        """Sends everything, kills these one by one meanwhile, and judges; it takes so long at most."""
        began = time.monotonic()
        with self._webhook.open() as receiver:
            self._add(receiver.url())
            devices = fleet.devices(self._place.stack, [(self.user, name) for name in self._names])
            workers = OwnWorkers(self._place.stack, SETTINGS)
            try:
                self._work(devices, workers, list(kills), began + seconds, lambda: len(receiver.calls))
            except AssertionError as error:
                problems = [str(error)]
            else:
                problems = []
            finally:
                workers.close()
                fleet.disconnect(devices)
            took = time.monotonic() - began
        wanted: dict[str, list[Change]] = {name: [] for name in self._names}
        for number in range(self._alerts):
            values = {"TRIGGERED": HOT + number, "RESOLVED": -float(number)}
            wanted[self._device(number)] += [(status, values[status]) for status in self.statuses]
        judgement = Judgement(receiver.calls, wanted)
        problems += judgement.problems(self._alerts, sum(victim in MAY_REPEAT for victim in self._killed))
        problems += self._problems_of_tables(kills)
        share = judgement.failed / max(1, judgement.requests)
        ended = ", ".join(f"{name} {times}" for name, times in workers.ended_alone.items())
        return Outcome(
            {
                "alerts": f"{self._alerts:,} ({judgement.alerts:,} ids told)",
                "messages": f"{self._total:,}: {' and '.join(self.statuses)}",
                "requests": f"{judgement.requests:,}",
                "failed answers": f"{judgement.failed:,} ({share:.1%})",
                "kills": f"{len(self._killed)}: {', '.join(self._killed)}",
                "ended by itself": ended or "none",
                "lost": str(judgement.lost),
                "doubled under another key": str(judgement.doubled),
                "repeated under the same key": str(judgement.repeated),
                "devices out of order": str(judgement.disordered),
                "duration": f"{took:.0f} s",
            },
            problems,
        )

    def forget(self) -> None:
        """Leaves no channel and no rule."""
        with psycopg.connect(self._place.database_url) as connection:
            connection.execute("DELETE FROM channels WHERE user_id = %s", [self.user])
            connection.execute("DELETE FROM user_configs WHERE user_id = %s", [self.user])

    def _add(self, url: str) -> None:
        with psycopg.connect(self._place.database_url) as connection:
            connection.execute(
                "INSERT INTO channels (user_id, name, kind, target, statuses)"
                " VALUES (%s, 'hook', 'webhook', %s, %s)",
                [self.user, url, list(self.statuses)],
            )
            connection.execute(
                "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s::text::jsonb)",
                [self.user, json.dumps(RULES)],
            )

    def _work(
        self,
        devices: list[fleet.Device],
        workers: OwnWorkers,
        kills: list[str],
        deadline: float,
        requests: Callable[[], int],
    ) -> None:
        """Until all is sent. Raises `AssertionError`, also when it takes too long."""
        began, total, planned, told_at = time.monotonic(), self._total, len(kills), 0.0
        while (sent := self._sent()) < total:
            now = time.monotonic()
            assert now < deadline, f"after {now - began:.0f} s {sent:,} of {total:,} were sent"
            self._feed(devices, sent)
            if now >= self._looks_at:
                self._looks_at = now + LOOK_SECONDS
                deliver_channels.watch()
            if sent >= total * (planned - len(kills) + 1) // (planned + 1) and kills:
                self._kill(workers, kills.pop(0), devices, now - began)
            workers.mind()
            if now >= told_at + PROGRESS_SECONDS:
                told_at = now
                self._say(
                    f"{now - began:5.0f} s  {self._fed:,} alerts made, {sent:,} of {total:,} sent,"
                    f" {self._states['waiting']:,} wait, {requests():,} requests"
                )
            time.sleep(0.2)
        assert not kills, f"all was sent before these were killed: {', '.join(kills)}"

    def _feed(self, devices: list[fleet.Device], sent: int) -> None:
        """Alerts as far as few enough are on their way; each with values that no other has."""
        most = min(MOST_ON_THEIR_WAY, max(40, self._alerts // 2))
        while self._fed < self._alerts and len(self.statuses) * self._fed - sent < most:
            self._publish(devices)

    def _publish(self, devices: list[fleet.Device]) -> None:
        number, now = self._fed, datetime.now(UTC)
        device = devices[number % len(devices)]
        for part, value in enumerate((HOT + number, -float(number))):
            reading: dict[str, Any] = {
                "sequence_id": 2 * number + part,
                "time": f"{now + timedelta(microseconds=part):%FT%T.%f}Z",
                "temperature": value,
            }
            device.publish(json.dumps(reading).encode())
        self._fed += 1

    def _kill(self, workers: OwnWorkers, victim: str, devices: list[fleet.Device], at: float) -> None:
        """Kills it while a request is on its way to the webhook, and readings on theirs."""
        assert self._webhook.await_request(300), f"no request came before {victim} was to be killed"
        for _ in range(min(len(devices), self._alerts - self._fed)):
            self._publish(devices)
        time.sleep(self._chance.uniform(0, 0.3))
        if victim in QUEUES:
            workers.kill(victim)
        else:
            kill = Kill(victim)
            kill.begin(self._place)
            kill.end(self._place)
        self._killed.append(victim)
        if victim == "beat":
            self._looks_at = time.monotonic() + BEATS_OWN_SECONDS
        self._say(f"{at:5.0f} s  killed {victim}")
        self.after_kill(victim)

    def _sent(self) -> int:
        """How many deliveries are done, as far as it is known: the database may be what was killed."""
        try:
            with psycopg.connect(self._place.database_url, connect_timeout=3) as connection:
                found = connection.execute(
                    "SELECT state, count(*) FROM channel_deliveries JOIN channels ON channels.id = channel_id"
                    " WHERE user_id = %s GROUP BY state",
                    [self.user],
                ).fetchall()
        except psycopg.Error:
            return self._states["sent"]
        self._states = Counter(dict(found))
        assert not self._states["failed"], f"{self._states['failed']} deliveries failed"
        return self._states["sent"]

    def _problems_of_tables(self, kills: Sequence[str]) -> list[str]:
        """What the tables say otherwise than the webhook."""
        with psycopg.connect(self._place.database_url) as connection:
            counts = connection.execute(
                "SELECT count(*), count(DISTINCT (alert_id, status)), count(DISTINCT alert_id)"
                " FROM alert_history WHERE user_id = %s",
                [self.user],
            ).fetchone()
        problems = []
        if counts != (2 * self._alerts, 2 * self._alerts, self._alerts):
            problems.append(f"alert_history has changes, different ones and alerts: {counts}")
        if self._sent() != self._total or self._states.total() != self._total:
            problems.append(f"the deliveries are {dict(self._states)}")
        if len(self._killed) != len(kills):
            problems.append(f"only {len(self._killed)} of {len(kills)} were killed")
        return problems

    @property
    def _total(self) -> int:
        return len(self.statuses) * self._alerts

    def _device(self, number: int) -> str:
        return self._names[number % len(self._names)]


if __name__ == "__main__":
    main()
