"""PUBACKs: in the order of arrival, after Kafka's confirmation, and on the connection of the message."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.acknowledge import Acknowledgements


@given(st.permutations(range(12)))
def test_acknowledged_in_the_order_of_arrival(confirmed: list[int]) -> None:
    """Whatever the order of Kafka's confirmations, the broker hears of its messages in its own order."""
    sent: list[int] = []
    waiting = Acknowledgements(sent.extend)
    messages = [waiting.add(mid) for mid in range(12)]
    for count, index in enumerate(confirmed, 1):
        waiting.confirm(messages[index])
        waiting.release()
        assert sent == list(range(len(sent)))
        assert set(sent) <= set(confirmed[:count])
    assert sent == list(range(12))
    assert len(waiting) == 0


@given(st.integers(0, 6), st.permutations(range(10)))
def test_nothing_of_an_old_connection_is_acknowledged(before: int, confirmed: list[int]) -> None:
    """After a reconnect only what came by the new connection is acknowledged, each once and in order."""
    sent: list[int] = []
    waiting = Acknowledgements(sent.extend)
    old = [waiting.add(mid) for mid in range(before)]
    waiting.connection_ended()
    new = [waiting.add(100 + mid) for mid in range(10 - before)]
    for index in confirmed:
        waiting.confirm([*old, *new][index])
        waiting.release()
    assert sent == [100 + mid for mid in range(10 - before)]


def test_what_is_confirmed_together_is_acknowledged_together() -> None:
    """One call for all that have nothing earlier to wait for; none where there is nothing."""
    calls: list[list[int]] = []
    waiting = Acknowledgements(calls.append)
    messages = [waiting.add(mid) for mid in range(5)]
    for one in (messages[0], messages[1], messages[3]):
        waiting.confirm(one)
    waiting.release()
    waiting.release()
    assert calls == [[0, 1]]
    waiting.confirm(messages[2])
    waiting.release()
    assert calls == [[0, 1], [2, 3]]
