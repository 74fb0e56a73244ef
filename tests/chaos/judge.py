"""What became of every message, alert and process when a fault was over."""

import base64
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer, TopicPartition

from compose.local.errors import StackError
from compose.local.stack import Stack
from ingest.admin.servers.positions import KafkaAway, Positions
from tests.chaos import options
from tests.chaos.load import Listener, Load, Name, Told
from tests.chaos.place import PROCESSES, Place
from tests.chaos.watch import Watch
from tests.conftest import DeadLetters
from tests.integration import fleet
from tests.records import up_to_end

TOPIC, GROUP = "iot-stream", "sluice-bridge"
Message = tuple[str, bytes]
"""An MQTT topic and a payload."""
# A reading takes a fraction of a second; a loaded machine may take its time.
NORMAL_SECONDS = 2.0
# After so long the judge gives up waiting.
PATIENCE_SECONDS = 150.0
# With the default settings no recovery may take longer, where nothing else keeps the machine busy.
RECOVERY_SECONDS = 60.0 if options.ALL else PATIENCE_SECONDS
# A process may need more memory after a fault than before, for instance for what it caught up on.
GROWTH_BYTES = 256 * 2**20
REDIS_BYTES = 256 * 2**20


@dataclass
class Verdict:
    """A line of the table. `seconds` is how long the fault lasted, until its servers were there again.

    `pause_seconds` is the longest time in which not every device got a further row.
    """

    fault: str
    test: str
    """The module of the test."""
    seconds: float = 0.0
    worst_latency_seconds: float = 0.0
    recovery_seconds: float = 0.0
    pause_seconds: float = 0.0
    messages: int = 0
    rows: int = 0
    dead_letters: int = 0
    alert_changes: int = 0
    lost: int = 0
    doubled: int = 0
    notices_repeated: int = 0
    memory_growth_mb: int = 0
    problems: list[str] = field(default_factory=list)
    judged: bool = False

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return self.judged and not self.problems


class Judge:
    """Judges one slice of the load after the other, each up to the moment at which all was well again."""

    def __init__(self, place: Place, load: Load, listeners: dict[str, Listener]) -> None:
        bootstrap = place.stack.env["KAFKA_BOOTSTRAP_SERVERS"]
        self._place = place
        self._load = load
        self._listeners = listeners
        self._letters = DeadLetters(bootstrap)
        self._records = Records(bootstrap, load.users)
        place.before_deletion = lambda: self._records.count(TOPIC)
        self._positions = Positions(bootstrap, GROUP)
        self._memory: dict[str, int] = {}
        self._first = 0
        self.watch = Watch(place.rows_url, load)

    def close(self) -> None:
        """Ends all connections."""
        self.watch.stop()
        self._letters.close()
        self._records.close()
        self._positions.close()

    def await_normal(self) -> None:
        """Returns when fresh readings are stored as quickly as they should be."""
        fresh = self._load.last + 1
        fleet.wait_until(
            lambda: self.watch.stored >= fresh and self.watch.behind() < NORMAL_SECONDS,
            PATIENCE_SECONDS,
            "the pipeline to keep pace",
        )

    def begin(self) -> None:
        """What comes from now on is the next slice's; what failed before has come to its end."""
        self.await_normal()
        self.watch.worst()
        self.watch.longest_pause()
        self._first = self._load.last + 1
        self._memory = self._memory or memory(self._place.stack)

    def recovery(self, verdict: Verdict, since: float) -> None:
        """Returns when the backlog is gone and fresh readings are stored as quickly as ever."""
        fresh = self._load.last + 1
        deadline = since + PATIENCE_SECONDS
        while self.watch.stored < fresh or self.watch.behind() > NORMAL_SECONDS:
            if time.monotonic() > deadline:
                verdict.problems.append(f"not recovered after {PATIENCE_SECONDS:.0f} s")
                break
            time.sleep(0.05)
        verdict.recovery_seconds = time.monotonic() - since
        verdict.worst_latency_seconds = self.watch.worst()
        verdict.pause_seconds = self.watch.longest_pause()
        if verdict.recovery_seconds > RECOVERY_SECONDS:
            verdict.problems.append(f"recovery took longer than {RECOVERY_SECONDS:.0f} s")

    def judge(self, verdict: Verdict) -> None:
        """Counts all that was published since `begin`, once it has come to rest."""
        while self._place.deleted:
            self._load.forget(*self._place.deleted.pop())
        if self._place.made_again:
            self._records.begin_again()
            self._place.made_again = False
        last = self._load.last
        ticks = range(self._first, last + 1)
        verdict.messages = self._load.messages(ticks.start, last)
        self._await(verdict, lambda: self._load.unacknowledged(last) == 0, "the MQTT broker to acknowledge")
        self._await(verdict, lambda: self.watch.stored >= last, "the rows")
        self._await(verdict, self._no_lag, "the lag to be 0")
        with psycopg.connect(self._place.rows_url(), autocommit=True) as database:
            self._judge_rows(verdict, database, ticks)
            self._judge_letters(verdict, ticks)
            self._judge_alerts(verdict, database, ticks)
        self._judge_memory(verdict)
        verdict.judged = True

    def judge_all(self, verdict: Verdict) -> None:
        """Everything since the beginning again: nothing may have come late, or twice."""
        self._first = 0
        self.judge(verdict)

    def come_to_rest(self) -> None:
        """Returns when all that was published is stored and committed; one that is not in time is left."""
        with suppress(AssertionError):
            fleet.wait_until(lambda: self.watch.stored >= self._load.last_good, 60, "the rows")
            fleet.wait_until(self._no_lag, 60, "the lag to be 0")

    def _await(self, verdict: Verdict, condition: Any, what: str) -> None:
        try:
            fleet.wait_until(condition, 60, what)
        except AssertionError as error:
            verdict.problems.append(str(error))

    def _no_lag(self) -> bool:
        # The load goes on: what was there a moment ago must be committed.
        try:
            ends = self._positions.ends(TOPIC)
            deadline = time.monotonic() + 10
            while self._positions.lag(TOPIC, ends) > 0 and time.monotonic() < deadline:
                time.sleep(0.1)
            return self._positions.lag(TOPIC, ends) == 0
        except KafkaAway:
            return False

    def _judge_rows(
        self, verdict: Verdict, database: psycopg.Connection[tuple[Any, ...]], ticks: range
    ) -> None:
        found: Counter[tuple[str, str, int]] = Counter(
            database.execute(
                "SELECT user_id, device_id, sequence_id FROM raw_telemetry"
                " WHERE user_id = ANY(%s) AND time >= %s AND sequence_id BETWEEN %s AND %s",
                [self._load.users, self._load.began, ticks.start, ticks.stop - 1],
            ).fetchall()
        )
        expected = {
            (*name, tick)
            for name, written in self._load.written.items()
            for tick in ticks
            if tick in written.good
        }
        verdict.rows = found.total()
        self._count(verdict, "rows", expected, found)

    def _judge_letters(self, verdict: Verdict, ticks: range) -> None:
        letters = [
            (key, (letter["original_topic"], base64.b64decode(letter["payload_base64"])), letter)
            for key, letter in self._letters.read()
            if letter["original_topic"].split("/")[1] in self._load.users
        ]
        expected = {
            (f"users/{user}/devices/{device}/telemetry", written.bad[tick])
            for (user, device), written in self._load.written.items()
            for tick in ticks
            if tick in written.bad
        }
        everything = {
            (f"users/{user}/devices/{device}/telemetry", payload)
            for (user, device), written in self._load.written.items()
            for payload in list(written.bad.values())
        }
        found = distinct((key, message) for key, message, _ in letters)
        # A gateway that broke off may put a message into Kafka twice: each record has its outcome.
        records = self._records.count(TOPIC)
        for message, count in list(found.items()):
            if 1 < count <= records[message]:
                found[message] = 1
        verdict.dead_letters = sum(found[message] for message in expected)
        self._count(
            verdict, "dead letters", expected, Counter({m: n for m, n in found.items() if m in expected})
        )
        if strange := [letter for _, message, letter in letters if message not in everything]:
            kinds = Counter(letter["error_type"] for letter in strange)
            verdict.problems.append(f"{len(strange)} dead letters of good messages: {dict(kinds)}")

    def _count(self, verdict: Verdict, what: str, expected: set[Any], found: "Counter[Any]") -> None:
        lost = expected - found.keys()
        doubled = [one for one, count in found.items() if count > 1]
        strange = found.keys() - expected
        verdict.lost += len(lost)
        verdict.doubled += len(doubled)
        for kind, those in (("lost", lost), ("doubled", doubled), ("unknown", strange)):
            if those:
                verdict.problems.append(f"{len(those)} {what} {kind}: {sorted(those)[:3]}")

    def _judge_alerts(
        self, verdict: Verdict, database: psycopg.Connection[tuple[Any, ...]], ticks: range
    ) -> None:
        first, last = ticks.start, ticks.stop - 1
        expected = {name: written.changes(first, last) for name, written in self._load.written.items()}

        def told() -> dict[Name, list[Told]]:
            return {(u, d): self._listeners[u].told(d, first, last) for u, d in self._load.names}

        self._await(verdict, lambda: told() == expected, "the notices")
        history: dict[Name, list[Told]] = defaultdict(list)
        for user, device, rule, status, tick in database.execute(
            "SELECT user_id, device_id, rule_id, status, sequence_id FROM alert_history"
            " WHERE user_id = ANY(%s) AND sequence_id BETWEEN %s AND %s"
            ' ORDER BY user_id, device_id, rule_id COLLATE "C", number',
            [self._load.users, first, last],
        ):
            history[user, device].append((rule, status, tick))
        verdict.alert_changes = sum(len(changes) for changes in history.values())
        notices = told()
        verdict.notices_repeated = sum(
            first <= notice["sequence_id"] <= last
            for listener in self._listeners.values()
            for notice in list(listener.notices)
        ) - sum(map(len, notices.values()))
        for where, found in (("alert_history", history), ("the notices", notices)):
            wrong = [name for name, changes in expected.items() if changes != found[name]]
            if wrong:
                name = wrong[0]
                verdict.problems.append(
                    f"{where} of {len(wrong)} devices, of {name}: {_difference(expected[name], found[name])}"
                )

    def _judge_memory(self, verdict: Verdict) -> None:
        growth = {
            name: used - self._memory.get(name, used) for name, used in memory(self._place.stack).items()
        }
        verdict.memory_growth_mb = max(growth.values(), default=0) // 2**20
        for name, grown in growth.items():
            if grown > GROWTH_BYTES:
                verdict.problems.append(f"{name} has grown by {grown // 2**20} MiB")
        with self._place.redis() as client:
            used = int(client.info("memory")["used_memory"])
        if used > REDIS_BYTES:
            verdict.problems.append(f"Redis holds {used // 2**20} MiB")


class Records:
    """Kafka's records of bad messages of some users, from the moment at which this object was made."""

    def __init__(self, bootstrap_servers: str, users: Iterable[str]) -> None:
        self._users = set(users)
        self._settings = {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "chaos",
            "enable.auto.commit": False,
            # A fault may have taken away what comes next.
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
        self._consumer = Consumer(self._settings)
        numbers = self._consumer.list_topics(TOPIC, 10).topics[TOPIC].partitions
        self._next = {
            n: self._consumer.get_watermark_offsets(TopicPartition(TOPIC, n), 10)[1] for n in numbers
        }
        self._found: Counter[tuple[str, bytes]] = Counter()

    def count(self, topic: str) -> "Counter[tuple[str, bytes]]":
        """How many records of each message there are up to now, by MQTT topic and payload."""
        starts = [TopicPartition(topic, n, start) for n, start in self._next.items()]
        for record in up_to_end(self._consumer, starts):
            partition, offset = record.partition(), record.offset()
            assert partition is not None
            assert offset is not None
            self._next[partition] = offset + 1
            name = dict(record.headers() or [])["mqtt_topic"]
            assert isinstance(name, bytes)
            if name.split(b"/")[1].decode() in self._users:
                self._found[name.decode(), record.value() or b""] += 1
        return self._found

    def begin_again(self) -> None:
        """The topic is another one now; a client that knows the old one may not read it."""
        self._consumer.close()
        self._consumer = Consumer(self._settings)
        self._next = dict.fromkeys(self._next, 0)

    def close(self) -> None:
        """Ends the consumer."""
        self._consumer.close()


def distinct(letters: Iterable[tuple[bytes, Message]]) -> "Counter[Message]":
    """How many dead letters each message has, by their keys.

    A letter whose confirmation was lost on the way is sent again under the same key. Another message may have
    that key, too: in a topic that was made again its place comes again.
    """
    return Counter(message for _, message in set(letters))


def memory(stack: Stack) -> dict[str, int]:
    """Of each process and server the resident bytes of its largest process."""
    found = {}
    for name in (*PROCESSES, "redis", "postgres", "kafka", "mosquitto"):
        try:
            pid = stack.pid(name)
            found[name] = max(_resident(one) for one in (pid, *fleet.children(pid)))
        except (StackError, FileNotFoundError):
            continue  # it is just being started again
    return found


def _resident(pid: int) -> int:
    # Without the pages of files and of shared memory, which PostgreSQL's processes have in common.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(lines[0][1]) * 1024 if lines else 0


def _difference(expected: list[Told], found: list[Told]) -> str:
    for number, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            near = slice(max(0, number - 2), number + 3)
            return f"at {number} of {len(expected)}: expected {expected[near]}, found {found[near]}"
    return f"expected {len(expected)} changes, found {len(found)}; rest {(expected + found)[-3:]}"
