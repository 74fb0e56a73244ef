"""The load tester's reckoning: it finds each lost and each doubled message, and nothing else."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ingest.loadtest import report
from ingest.loadtest.fleet.fleet import Totals
from ingest.loadtest.latency import Key, Sampler, percentile
from ingest.loadtest.ledger import (
    Id,
    Ledger,
    Letter,
    Outcome,
    RunRecord,
    Seen,
    fingerprint,
    locate,
    reconcile,
)

DEVICES = [("u1", "d1"), ("u1", "d2"), ("u2", "d1")]


def topic(message: Id) -> str:
    """The MQTT topic of a message."""
    return f"users/{message.user}/devices/{message.device}/telemetry"


def payload(message: Id) -> bytes:
    """The bytes of a bad message."""
    return b"bad %d" % message.sequence_id


def letter(message: Id, key: bytes = b"") -> Letter:
    """The dead letter of a bad message, by default with a key of its own."""
    name = topic(message)
    return Letter(
        key or repr(message).encode(), name, "InvalidJson", fingerprint(name, payload(message)), None
    )


def record(message: Id, *, bad: bool = False, committed: bool = True) -> RunRecord:
    """The Kafka record of a message."""
    mark = fingerprint(topic(message), payload(message) if bad else b"good")
    return RunRecord(topic(message), None if bad else message.sequence_id, mark, committed)


def ledger(*messages: tuple[Id, bool], acknowledged: bool = True) -> Ledger:
    """A ledger of the messages, each with whether it is bad."""
    book = Ledger(DEVICES)
    for message, bad in messages:
        book.published(*message, bad=("cut", topic(message), payload(message)) if bad else None)
        if acknowledged:
            book.acknowledged(*message)
    return book


GOOD, BAD = Id("u1", "d1", 1), Id("u1", "d1", 2)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Id], list[Id]]:
    """Good and bad messages of several devices."""
    good: list[Id] = []
    bad: list[Id] = []
    for device in DEVICES:
        kinds = draw(st.lists(st.booleans(), max_size=12))
        for sequence_id, is_bad in enumerate(kinds, 1):
            (bad if is_bad else good).append(Id(*device, sequence_id))
    return good, bad


@given(runs(), st.data())
def test_every_fault_is_found_and_named(run: tuple[list[Id], list[Id]], data: st.DataObject) -> None:
    """Whatever is missing or doubled is named exactly, and nothing else is."""
    good, bad = run
    messages = sorted([(message, False) for message in good] + [(message, True) for message in bad])
    book = ledger(*messages)
    lost = set(data.draw(st.lists(st.sampled_from(good), unique=True))) if good else set()
    twice = set(data.draw(st.lists(st.sampled_from(good), unique=True))) - lost if good else set()
    undead = set(data.draw(st.lists(st.sampled_from(bad), unique=True))) if bad else set()
    rows = [message for message in good if message not in lost] + sorted(twice)
    outcome = reconcile(book, rows, [letter(message) for message in bad if message not in undead])
    assert set(outcome.missing) == lost | undead
    assert set(outcome.missing.values()) <= {Seen.BROKER}
    assert outcome.doubled_rows == sorted(twice)
    assert outcome.stored == len(good) - len(lost)
    assert outcome.dead_lettered == len(bad) - len(undead)
    assert outcome.lost == len(lost | undead)
    assert outcome.doubled == len(twice)


def test_the_same_letter_sent_twice_is_one() -> None:
    """Several envelopes with one Kafka key are one dead letter, and their number is told."""
    outcome = reconcile(ledger((GOOD, False), (BAD, True)), [GOOD], [letter(BAD), letter(BAD)])
    assert (outcome.dead_lettered, outcome.envelopes, outcome.repeated_envelopes) == (1, 2, 1)
    assert outcome.doubled == 0


def test_two_letters_of_one_record_are_doubled() -> None:
    """Two dead letters with different keys are a doubled message when Kafka has its record only once."""
    book = ledger((GOOD, False), (BAD, True))
    outcome = reconcile(book, [GOOD], [letter(BAD, b"0/1"), letter(BAD, b"0/2")])
    locate(book, outcome, [record(GOOD), record(BAD, bad=True)])
    assert outcome.doubled_letters == {BAD: 2}


def test_two_letters_of_two_records_are_right() -> None:
    """A bad message that came to Kafka twice, after a broken connection, rightly has two dead letters."""
    book = ledger((GOOD, False), (BAD, True))
    outcome = reconcile(book, [GOOD], [letter(BAD, b"0/1"), letter(BAD, b"0/2")])
    locate(book, outcome, [record(GOOD), record(BAD, bad=True), record(BAD, bad=True)])
    assert outcome.doubled == 0


@pytest.mark.parametrize(
    ("acknowledged", "records", "seen"),
    [
        (False, [], Seen.DEVICE),
        (True, [], Seen.BROKER),
        (True, [record(GOOD, committed=False)], Seen.KAFKA),
        (True, [record(GOOD)], Seen.COMMITTED),
        (False, [record(GOOD)], Seen.COMMITTED),
    ],
)
def test_a_missing_message_was_last_seen_somewhere(
    acknowledged: bool, records: list[RunRecord], seen: Seen
) -> None:
    """The report says of each missing message how far it came."""
    book = ledger((GOOD, False), acknowledged=acknowledged)
    outcome = reconcile(book, [], [])
    locate(book, outcome, records)
    assert outcome.missing == {GOOD: seen}


def test_a_missing_bad_message_is_looked_up_too() -> None:
    """A bad message without a dead letter is found in Kafka by its bytes: it may have no sequence id."""
    book = ledger((GOOD, False), (BAD, True))
    outcome = reconcile(book, [GOOD], [])
    locate(book, outcome, [record(BAD, bad=True, committed=False)])
    assert outcome.missing == {BAD: Seen.KAFKA}


def test_a_good_message_among_the_dead_letters_is_lost() -> None:
    """A good message that was refused has no row: it is lost, and its dead letter is shown."""
    refused = Letter(b"k", topic(GOOD), "InvalidField", b"other", GOOD.sequence_id)
    outcome = reconcile(ledger((GOOD, False)), [], [refused])
    assert outcome.missing == {GOOD: Seen.DEAD_LETTERS}
    assert outcome.strange_letters == [refused]


def test_a_row_that_nobody_published_is_a_fault() -> None:
    """Rows of bad messages, of unknown sequence ids and of unknown devices count as doubled."""
    rows = [GOOD, BAD, Id("u1", "d1", 3), Id("u1", "d9", 1)]
    outcome = reconcile(ledger((GOOD, False), (BAD, True)), rows, [letter(BAD)])
    assert outcome.strange_rows == [Id("u1", "d1", 3), Id("u1", "d9", 1), BAD]
    assert outcome.stored == 1


def test_a_message_that_the_broker_refused_is_not_looked_for() -> None:
    """A message that the broker refused is lost by name, and by nobody behind the broker."""
    book = ledger((GOOD, False), acknowledged=False)
    book.refused(*GOOD)
    outcome = reconcile(book, [], [])
    assert outcome.refused == [GOOD]
    assert outcome.missing == {}
    assert outcome.lost == 1


def test_a_gap_in_the_sequence_is_noticed() -> None:
    """The ledger takes a device's messages in order only, since it stands on their being without a gap."""
    with pytest.raises(ValueError, match="published 2"):
        Ledger(DEVICES).published("u1", "d1", 2)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_percentiles_are_nearest_rank(values: list[float], share: float) -> None:
    """At least the share of the values is not above the percentile, and the percentile is one of them."""
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered)
    assert sum(value < found for value in ordered) < share * len(ordered)


def test_a_sample_is_timed_from_the_device_to_the_sight_of_its_row() -> None:
    """A sample's latency ends when its row was seen; what is never seen is counted as unseen."""
    clock = iter([100.0, 100.2, 100.5])
    sampler = Sampler(1000, clock=lambda: next(clock))
    sampler.offer("u", "d", 1, 1_000_000)
    sampler.offer("u", "d", 2, 2_000_000)
    assert sampler.pending == 2
    key = next(iter(sampler._pending))
    sampler.seen([key, Key(key.time, "somebody", "else", 1)])
    result = sampler.result()
    assert (result.samples, result.unseen, result.skipped) == (1, 1, 0)
    assert result.max == pytest.approx(500)


def test_samples_are_spread_over_time() -> None:
    """About as many messages are sampled as was asked for, however many there are."""
    now = [0.0]
    sampler = Sampler(50, clock=lambda: now[0])
    for number in range(20_000):
        now[0] = number / 2000
        sampler.offer("u", "d", number, number)
    assert 450 <= sampler.pending <= 550


def test_no_samples_have_no_percentiles() -> None:
    """Without samples there is no latency, rather than one of zero."""
    assert Sampler(0).result().p50 is None


def shown(outcome: Outcome, book: Ledger, lag: int = 0) -> tuple[bool, str]:
    """Whether the result is good, and the page that says so."""
    options = report.Options(1, 1, 10, 1, 1, 0, 0, 1, 1)
    totals = Totals(published=book.good + book.bad, acknowledged=book.good)
    latency = Sampler(0).result()
    result = report.as_data("r", options, totals, report.Timing(1, 1, 1), book, outcome, latency, lag)
    text = io.StringIO()
    report.show({**result, "trouble": ""}, Console(file=text, width=120))
    return result["ok"], text.getvalue()


def test_a_faultless_run_says_so() -> None:
    """Nothing lost and nothing doubled is said in words, and is the only good result."""
    book = ledger((GOOD, False), (BAD, True))
    ok, text = shown(reconcile(book, [GOOD], [letter(BAD)]), book)
    assert ok
    assert "0 lost, 0 doubled" in text


def test_a_faulty_run_names_its_messages() -> None:
    """The page names what is missing, where it was seen last, and what still waits."""
    book = ledger((GOOD, False), (BAD, True))
    ok, text = shown(reconcile(book, [], [letter(BAD)]), book, lag=7)
    assert not ok
    assert "1 lost" in text
    assert "1 acknowledged by the broker, not in Kafka: u1/d1 #1" in text
    assert "7 records wait in Kafka" in text
