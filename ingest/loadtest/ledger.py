"""Compares what was published with what was found: each message, not only their number."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Id(NamedTuple):
    """One message of the run."""

    user: str
    device: str
    sequence_id: int


class Bad(NamedTuple):
    """A message that must become a dead letter: what is wrong with it, and its fingerprint."""

    kind: str
    fingerprint: bytes


class Seen(StrEnum):
    """Where a missing message was seen last."""

    DEVICE = "published, not acknowledged by the broker"
    BROKER = "acknowledged by the broker, not in Kafka"
    KAFKA = "in Kafka, not yet committed by the bridge"
    COMMITTED = "in Kafka and committed, without a row or dead letter"
    DEAD_LETTERS = "a dead letter, though it was good"


class Letter(NamedTuple):
    """A dead letter of the run."""

    key: bytes
    topic: str
    error_type: str
    fingerprint: bytes
    sequence_id: int | None


def fingerprint(topic: str, payload: bytes) -> bytes:
    """Distinguishes the messages of a run by their topic and their exact bytes."""
    return hashlib.blake2b(topic.encode() + b"\0" + payload, digest_size=16).digest()


@dataclass
class DeviceLedger:
    """One device: its sequence ids go from 1 to `len(acknowledged)`."""

    acknowledged: bytearray = field(default_factory=bytearray)
    """For each sequence id: 0 without an answer, 1 when the broker acknowledged it, 2 when it refused it."""
    bad: dict[int, Bad] = field(default_factory=dict)


class Ledger:
    """All messages of a run, at about one byte each."""

    def __init__(self, devices: Iterable[tuple[str, str]]) -> None:
        self.devices = {device: DeviceLedger() for device in devices}
        self.kinds: Counter[str] = Counter()

    def published(
        self, user: str, device: str, sequence_id: int, *, bad: tuple[str, str, bytes] | None = None
    ) -> None:
        """A device's next message; `bad` is what is wrong with it, its topic and its payload.

        Raises `ValueError` when it is not the device's next.
        """
        ledger = self.devices[user, device]
        ledger.acknowledged.append(0)
        if len(ledger.acknowledged) != sequence_id:
            raise ValueError(
                f"{user}/{device} published {sequence_id} as its message {len(ledger.acknowledged)}"
            )
        if bad is not None:
            kind, topic, payload = bad
            ledger.bad[sequence_id] = Bad(kind, fingerprint(topic, payload))
            self.kinds[kind] += 1

    def acknowledged(self, user: str, device: str, sequence_id: int) -> None:
        """The broker has the message."""
        self.devices[user, device].acknowledged[sequence_id - 1] = 1

    def refused(self, user: str, device: str, sequence_id: int) -> None:
        """The broker has refused the message."""
        self.devices[user, device].acknowledged[sequence_id - 1] = 2

    @property
    def good(self) -> int:
        """Messages that must become rows."""
        return sum(len(device.acknowledged) - len(device.bad) for device in self.devices.values())

    @property
    def bad(self) -> int:
        """Messages that must become dead letters."""
        return sum(len(device.bad) for device in self.devices.values())


@dataclass
class Outcome:
    """The outcomes of the messages; each wrong one is named."""

    stored: int = 0
    """Different good messages with a row."""
    dead_lettered: int = 0
    """Different bad messages with a dead letter."""
    missing: dict[Id, Seen] = field(default_factory=dict)
    """Messages without what they must have become; `locate` says where those in the dark were seen last."""
    refused: list[Id] = field(default_factory=list)
    """Messages that the broker refused, and that went nowhere."""
    doubled_rows: list[Id] = field(default_factory=list)
    doubled_letters: dict[Id, int] = field(default_factory=dict)
    """Bad messages with several dead letters of different Kafka records, and how many letters."""
    strange_rows: list[Id] = field(default_factory=list)
    """Rows that nobody published as a good message."""
    strange_letters: list[Letter] = field(default_factory=list)
    """Dead letters that nobody published as a bad message."""
    envelopes: int = 0
    """Dead letters of the run, repeated ones included."""
    repeated_envelopes: int = 0
    """Dead letters whose Kafka key had come before: the same letter, sent twice."""
    error_types: Counter[str] = field(default_factory=Counter)
    """How many different dead letters for which reason."""

    @property
    def lost(self) -> int:
        """Messages that did not become what they must."""
        return len(self.missing) + len(self.refused)

    @property
    def doubled(self) -> int:
        """Messages that became something twice, or something that they must not."""
        return (
            len(self.doubled_rows)
            + len(self.doubled_letters)
            + len(self.strange_rows)
            + len(self.strange_letters)
        )


def reconcile(ledger: Ledger, rows: Iterable[tuple[str, str, int]], letters: Iterable[Letter]) -> Outcome:
    """Holds rows (user, device, sequence id) and dead letters against what was published."""
    outcome = Outcome()
    _check_rows(ledger, rows, outcome)
    _check_letters(ledger, letters, outcome)
    return outcome


def _check_rows(ledger: Ledger, rows: Iterable[tuple[str, str, int]], outcome: Outcome) -> None:
    found = {name: bytearray(len(device.acknowledged)) for name, device in ledger.devices.items()}
    doubled: set[Id] = set()
    for user, device, sequence_id in rows:
        counts = found.get((user, device))
        if counts is None or not 1 <= sequence_id <= len(counts):
            outcome.strange_rows.append(Id(user, device, sequence_id))
        elif counts[sequence_id - 1]:
            doubled.add(Id(user, device, sequence_id))
        else:
            counts[sequence_id - 1] = 1
    outcome.doubled_rows = sorted(doubled)
    for (user, device), counts in found.items():
        bad = ledger.devices[user, device].bad
        status = ledger.devices[user, device].acknowledged
        outcome.stored += sum(counts)
        for sequence_id in bad:
            if counts[sequence_id - 1]:
                outcome.stored -= 1
                outcome.strange_rows.append(Id(user, device, sequence_id))
        at = counts.find(0)
        while at >= 0:
            if at + 1 not in bad:
                _note_missing(outcome, Id(user, device, at + 1), status[at])
            at = counts.find(0, at + 1)


def _check_letters(ledger: Ledger, letters: Iterable[Letter], outcome: Outcome) -> None:
    expected = {
        bad.fingerprint: Id(*name, sequence_id)
        for name, device in ledger.devices.items()
        for sequence_id, bad in device.bad.items()
    }
    keys: set[bytes] = set()
    counts: Counter[Id] = Counter()
    for letter in letters:
        outcome.envelopes += 1
        if letter.key in keys:
            outcome.repeated_envelopes += 1
            continue
        keys.add(letter.key)
        outcome.error_types[letter.error_type] += 1
        message = expected.get(letter.fingerprint)
        if message is not None:
            counts[message] += 1
        else:
            outcome.strange_letters.append(letter)
            if (good := _id(letter.topic, letter.sequence_id)) in outcome.missing:
                outcome.missing[good] = Seen.DEAD_LETTERS
    outcome.dead_lettered = len(counts)
    outcome.doubled_letters = {message: count for message, count in counts.items() if count > 1}
    for message in expected.values():
        if message not in counts:
            status = ledger.devices[message.user, message.device].acknowledged
            _note_missing(outcome, message, status[message.sequence_id - 1])


def _id(topic: str, sequence_id: int | None) -> Id:
    _, user, _, device, _ = topic.split("/")
    return Id(user, device, sequence_id or 0)


def _note_missing(outcome: Outcome, message: Id, status: int) -> None:
    if status == 2:
        outcome.refused.append(message)
    else:
        outcome.missing[message] = Seen.BROKER if status else Seen.DEVICE


class RunRecord(NamedTuple):
    """A record of the run in Kafka's telemetry topic, and whether the bridge has committed past it."""

    topic: str
    sequence_id: int | None
    fingerprint: bytes
    committed: bool


def locate(ledger: Ledger, outcome: Outcome, records: Iterable[RunRecord]) -> None:
    """Looks the missing up in Kafka, and forgives dead letters of messages that came to Kafka more than once.

    A device whose connection broke publishes again, and so does a broker whose gateway was killed: then
    Kafka has two records with the same payload, and each rightly has its own dead letter.
    """
    wanted: dict[bytes, Id] = {}
    for message in (*outcome.missing, *outcome.doubled_letters):
        bad = ledger.devices[message.user, message.device].bad.get(message.sequence_id)
        if bad is not None:
            wanted[bad.fingerprint] = message
    counts: Counter[Id] = Counter()
    for record in records:
        found = wanted.get(record.fingerprint) or _id(record.topic, record.sequence_id)
        counts[found] += 1
        if outcome.missing.get(found) in {Seen.DEVICE, Seen.BROKER}:
            outcome.missing[found] = Seen.COMMITTED if record.committed else Seen.KAFKA
    outcome.doubled_letters = {
        message: letters for message, letters in outcome.doubled_letters.items() if letters > counts[message]
    }
