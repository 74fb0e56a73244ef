"""Lanes: at most one batch in flight, order per device, and commits that never pass an unfinished message."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from ingest.lanes.aside import PAUSE_SECONDS, Gathered
from ingest.lanes.lane import (
    MAX_RETRY_SECONDS,
    STRIKES_TO_CONDEMN,
    Batch,
    BatchLimits,
    Lane,
    make_batch,
    partitions_to_pause,
)
from tasks.batch.messages import Deferred, Message, Verdict, unpack_part

LIMITS = BatchLimits(messages=10, size=1000, linger=0.02, part_messages=4, max_parts=2)
LOST = Verdict("WorkerLost", "killed")


def message(offset: int, partition: int = 0, payload: bytes = b"x", key: bytes = b"u/d") -> Gathered:
    """A message as the bridge gathers it."""
    return Gathered(key, Message(partition, offset, 1_700_000_000_000, "t", "", 0, payload))


def lane_with(*offsets: int, at: float = 0.0) -> Lane:
    """A lane in which messages with these offsets wait since `at`."""
    lane = Lane(LIMITS, "telemetry")
    for offset in offsets:
        lane.gather(message(offset), at)
    return lane


def test_a_message_of_an_idle_lane_waits_only_for_the_rest_of_its_fetch() -> None:
    """It has waited for others in Kafka; the records of a fetch come within a few milliseconds."""
    lane = lane_with(1, at=5.0)
    assert not lane.ready(5.004)
    assert lane.ready(5.006)


def test_a_full_lane_does_not_linger() -> None:
    """A whole batch goes at once."""
    assert lane_with(*range(10)).ready(0.0)


def test_one_batch_in_flight() -> None:
    """While a batch is in flight nothing else of its lane is sent, however much waits."""
    lane = lane_with(*range(25))
    lane.take(0.0)
    assert not lane.ready(1e9)


def test_a_batch_that_is_not_full_goes_a_linger_after_the_one_before() -> None:
    """Whether that is still at work or done: batches grow with the load."""
    lane = lane_with(1)
    lane.take(100.0)
    lane.gather(message(2), 100.001)
    lane.finish()
    assert not lane.ready(100.019)
    assert lane.ready(100.021)
    lane.take(100.021)
    lane.gather(message(3), 100.022)
    assert not lane.ready(100.5)
    lane.finish()
    assert lane.ready(100.5)


def test_a_finished_batch_commits_the_offset_after_its_last_message() -> None:
    """The commit is one number per partition: the next offset to read."""
    lane = Lane(LIMITS, "telemetry")
    for gathered in (message(7, 0), message(3, 4), message(8, 0)):
        lane.gather(gathered, 0.0)
    lane.take(0.0)
    assert lane.finish() == {0: 9, 4: 4}


def test_a_batch_is_bounded_in_bytes() -> None:
    """Large payloads make small batches, and one payload above the bound still makes a batch of its own."""
    lane = Lane(LIMITS, "telemetry")
    for offset in range(3):
        lane.gather(message(offset, payload=b"x" * 600), 0.0)
    assert lane.full
    assert [lane.take(0.0).total, bool(lane.finish()), lane.take(0.0).total] == [1, True, 1]
    huge = Lane(LIMITS, "telemetry")
    huge.gather(message(0, payload=b"x" * 5000), 0.0)
    assert huge.take(0.0).total == 1


def test_full_lanes_pause_their_partitions_only() -> None:
    """Back-pressure stops the lanes that are far behind, not their neighbours, until they have caught up."""
    behind, beside = lane_with(*range(30)), lane_with(1)
    lanes = {0: behind, 1: beside, 2: behind, 3: beside}
    assert partitions_to_pause(lanes, set()) == {0, 2}
    behind.take(0.0)
    assert partitions_to_pause(lanes, set()) == set()
    assert partitions_to_pause(lanes, {0, 2}) == {0, 2}


def test_a_batch_waits_longer_at_each_attempt_up_to_a_maximum() -> None:
    """However long an outage lasts, the pause is a number, and bounded."""
    pauses = [Batch("telemetry", [], 0, {}, attempt=attempt).pause(0.1) for attempt in (1, 2, 3, 20, 5000)]
    assert pauses == [0.2, 0.4, 0.8, MAX_RETRY_SECONDS, MAX_RETRY_SECONDS]


def test_dropping_a_lane_forgets_everything() -> None:
    """After a rebalance nothing of the old assignment can be sent or committed."""
    lane = lane_with(*range(25))
    lane.take(0.0)
    lane.drop()
    assert (lane.batch, lane.waiting, lane.full, lane.ready(1e9)) == (None, [], False, False)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([b"a", b"b", b"c", b"d", b"e"])), min_size=1, max_size=60
    )
)
def test_parts_hold_every_message_once_and_each_device_in_order(arrivals: list[tuple[int, bytes]]) -> None:
    """Splitting a batch loses and doubles nothing, keeps a device in one part, and its messages in order."""
    taken = [message(offset, partition, key=key) for offset, (partition, key) in enumerate(arrivals)]
    batch = make_batch("telemetry", taken, LIMITS)
    parts = [unpack_part(blob) for blob in batch.parts]
    key_of = {gathered.message.offset: gathered.key for gathered in taken}
    offsets = [[message.offset for message in part.messages] for part in parts]
    assert sorted(offset for part in offsets for offset in part) == list(range(len(taken)))
    assert all(part == sorted(part) for part in offsets)
    devices = [{key_of[offset] for offset in part} for part in offsets]
    assert sum(len(keys) for keys in devices) == len(set(key_of.values()))
    assert batch.total == len(taken)


@given(st.lists(st.integers(1, 12), max_size=30))
def test_commits_follow_the_messages_without_a_gap(bursts: list[int]) -> None:
    """Batches take messages in order, and each commit ends where the next batch starts."""
    lane = Lane(LIMITS, "telemetry")
    offset = committed = 0
    for burst in bursts:
        for _ in range(burst):
            lane.gather(message(offset), 0.0)
            offset += 1
        if lane.ready(1.0):
            batch = lane.take(0.0)
            first = min(unpack_part(blob).first_offsets[0] for blob in batch.parts)
            assert first == committed
            assert batch.total <= LIMITS.messages
            committed = lane.finish()[0]
    assert committed + len(lane.waiting) == offset


def offsets(batch: Batch) -> list[int]:
    """The offsets of the batch's messages, in their order."""
    return [gathered.message.offset for gathered in batch.taken]


def test_one_loss_is_chance() -> None:
    """A worker that was killed once proves nothing: the same batch goes again, whole, but under suspicion."""
    lane = lane_with(1, 2, 3, 4)
    batch = lane.take(0.0)
    assert lane.lost(LOST) is batch
    assert (batch.suspect, batch.total, batch.verdict) == (True, 4, None)
    assert lane.lost(None) is batch
    assert not batch.suspect


def test_a_batch_that_keeps_killing_workers_is_halved() -> None:
    """The halves go one after the other, before anything that waits, and each commits its own offsets."""
    lane = lane_with(1, 2, 3, 4, 5)
    lane.take(0.0)
    lane.gather(message(6), 0.0)
    lane.lost(LOST)
    first = lane.lost(LOST)
    assert (offsets(first), first.suspect) == ([1, 2], True)
    assert lane.finish() == {0: 3}
    assert lane.ready(0.0)
    second = lane.take(0.0)
    assert (offsets(second), second.suspect) == ([3, 4, 5], True)
    assert lane.finish() == {0: 6}
    assert not lane.ready(0.0)
    assert offsets(lane.take(0.0)) == [6]


def test_a_single_message_is_condemned_only_after_several_losses_in_a_row() -> None:
    """A loss without evidence between them starts the count again, and a verdict is never taken back."""
    lane = lane_with(1)
    batch = lane.take(0.0)
    for evidence in (LOST, LOST, None, LOST, LOST):
        assert lane.lost(evidence) is batch
        assert batch.verdict is None
    assert STRIKES_TO_CONDEMN == 3
    assert lane.lost(LOST).verdict == LOST
    assert (batch.suspect, batch.blind) == (True, False)
    for evidence in (None, LOST):
        assert lane.lost(evidence).verdict == LOST
        assert not batch.blind
    assert lane.lost(LOST).verdict == LOST
    assert (batch.suspect, batch.blind) == (False, True)


def test_losses_without_evidence_never_halve_or_condemn() -> None:
    """However long an outage lasts, its batches stay what they are."""
    lane = lane_with(1, 2, 3)
    batch = lane.take(0.0)
    for _ in range(1000):
        assert lane.lost(None) is batch
    assert (batch.total, batch.verdict, batch.suspect) == (3, None, False)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=60),
    st.lists(st.sampled_from(["works", "works", "lost", "lost with evidence"]), max_size=100),
)
def test_exactly_the_deadly_messages_are_condemned(
    arrivals: list[tuple[int, bool]], fates: list[str]
) -> None:
    """Whatever else gets lost on the way: every message has one outcome, deadly ones are condemned and no
    others, each partition goes in its order, and no commit passes a message without outcome.
    """
    lane = Lane(LIMITS, "telemetry")
    for offset, (partition, _) in enumerate(arrivals):
        lane.gather(message(offset, partition), 0.0)
    deadly = {offset for offset, (_, deadly) in enumerate(arrivals) if deadly}
    stored: list[int] = []
    condemned: list[int] = []
    for fate in [*fates, *["works"] * 20 * len(arrivals)]:
        if lane.batch is None:
            if not lane.ready(1e9):
                break
            lane.take(0.0)
        batch = lane.batch
        assert batch is not None
        found = offsets(batch)
        if fate != "works":
            # Evidence comes from deadly messages alone: the rest is the business of those who gather it.
            lane.lost(LOST if deadly & set(found) and fate == "lost with evidence" else None)
            continue
        if batch.verdict:
            condemned += found
        elif deadly & set(found):
            lane.lost(LOST)
            continue
        else:
            stored += found
        for partition, next_offset in lane.finish().items():
            before = {o for o, (p, _) in enumerate(arrivals) if p == partition and o < next_offset}
            assert before <= {*stored, *condemned}
    assert sorted(stored + condemned) == list(range(len(arrivals)))
    assert set(condemned) == deadly
    assert stored == sorted(stored)


def test_others_pass_by_what_is_deferred() -> None:
    """A user's deferred messages go on a few at a time, and the messages of others do not wait for them."""
    lane = Lane(LIMITS, "telemetry")
    for offset in range(9):
        lane.gather(message(offset, key=b"busy/d"), 0.0)
    lane.take(0.0)
    later = frozenset((0, offset) for offset in range(1, 9))
    assert lane.finish(Deferred(soon=later)) == {0: 1}
    lane.gather(message(9, key=b"busy/e"), 0.0)
    lane.gather(message(10, key=b"quiet/d"), 0.0)
    batch = lane.take(0.0)
    assert offsets(batch) == [1, 2, 10]
    assert unpack_part(batch.parts[0]).first_offsets == {0: 1}
    assert lane.finish() == {0: 3}
    assert offsets(lane.take(0.0)) == [3, 4, 5, 6]


def test_a_user_whose_outbox_is_full_is_tried_again_after_a_pause() -> None:
    """Not at once, and what they send meanwhile waits behind it."""
    lane = lane_with(0, 1)
    lane.take(0.0)
    lane.finish(Deferred(held=frozenset([(0, 0), (0, 1)])), 100.0)
    lane.gather(message(2), 100.0)
    assert not lane.ready(100.0 + PAUSE_SECONDS - 0.01)
    assert lane.ready(100.0 + PAUSE_SECONDS)
    assert offsets(lane.take(100.0 + PAUSE_SECONDS)) == [0, 1, 2]


def test_much_that_is_set_aside_pauses_the_partitions() -> None:
    """One user's waiting messages are bounded, too, until half of them are gone."""
    lane = lane_with(0, 1)
    lane.take(0.0)
    lane.finish(Deferred(soon=frozenset([(0, 1)])))
    for offset in range(2, 41):
        lane.gather(message(offset), 0.0)
    assert partitions_to_pause({0: lane}, set()) == set()
    assert partitions_to_pause({0: lane}, {0}) == {0}
    for offset in range(41, 81):
        lane.gather(message(offset), 0.0)
    assert partitions_to_pause({0: lane}, set()) == {0}


@given(
    st.lists(
        st.tuples(st.sampled_from([b"a/1", b"a/2", b"b/1", b"c/1"]), st.integers(0, 5)),
        min_size=1,
        max_size=40,
    ),
    st.data(),
)
@settings(max_examples=50)
def test_every_message_finishes_once_in_order_whatever_is_deferred(
    arrivals: list[tuple[bytes, int]], data: DataObject
) -> None:
    """Against a plain model, with batches that are lost, halved and deferred in any mixture.

    Each message finishes once, each device's in their order; no commit passes an unfinished message, none
    goes back, and no part claims that what may come again cannot.
    """
    lane = Lane(LIMITS, "telemetry")
    key_of = {offset: key for offset, (key, _) in enumerate(arrivals)}
    partition_of = {offset: partition_by_key(key) for offset, key in key_of.items()}
    deadly = {offset for offset, (_, fate) in enumerate(arrivals) if fate == 0}
    finished: list[int] = []
    committed: dict[int, int] = {}
    coming, now = list(key_of), 0.0
    for turn in range(100 * len(arrivals)):
        now += 2 * PAUSE_SECONDS
        for _ in range(data.draw(st.integers(0, 15)) if turn < 20 else 15):
            if coming:
                offset = coming.pop(0)
                lane.gather(message(offset, partition_of[offset], key=key_of[offset]), now - 1)
        if lane.batch is None:
            if not lane.ready(now):
                if not coming:
                    break
                continue
            lane.take(now)
        batch = lane.batch
        assert batch is not None
        found = offsets(batch)
        for blob in batch.parts:
            for partition, first in unpack_part(blob).first_offsets.items():
                assert first <= min(o for o in key_of if partition_of[o] == partition and o not in finished)
        if deadly & set(found) and not batch.verdict:
            lane.lost(LOST)
            continue
        deferred: set[int] = set()
        if not batch.verdict and turn < 50 * len(arrivals):
            for user in {key[:1] for key in key_of.values()}:
                own = [offset for offset in found if key_of[offset].startswith(user)]
                # At least one is finished, or the user's outbox is full.
                deferred |= set(own[data.draw(st.integers(0, len(own))) :])
        held = frozenset((partition_of[offset], offset) for offset in deferred if data.draw(st.booleans()))
        soon = frozenset((partition_of[offset], offset) for offset in deferred) - held
        finished += [offset for offset in found if offset not in deferred]
        for partition, next_offset in lane.finish(Deferred(soon, held), now).items():
            before = {o for o in key_of if partition_of[o] == partition and o < next_offset}
            assert before <= set(finished)
            assert next_offset >= committed.get(partition, 0)
            committed[partition] = next_offset
    assert sorted(finished) == list(key_of)
    for key in set(key_of.values()):
        own = [offset for offset in finished if key_of[offset] == key]
        assert own == sorted(own)
    for partition in set(partition_of.values()):
        assert committed[partition] == 1 + max(o for o in key_of if partition_of[o] == partition)


def partition_by_key(key: bytes) -> int:
    """As Kafka has it: a device's messages are all in one partition."""
    return key[0] % 2
