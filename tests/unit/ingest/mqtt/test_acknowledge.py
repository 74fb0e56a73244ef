"""PUBACKs: in the order of arrival, after Kafka's confirmation, and on the connection of the message."""

from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from ingest.mqtt.acknowledge import Acknowledgements, Answers


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


def test_what_holds_up_many_that_are_done_is_found() -> None:
    """Only when more than so many behind it are confirmed, and it has waited: an outage holds up nobody."""
    waiting = Acknowledgements(lambda _: None)
    messages = [waiting.add(mid) for mid in range(6)]
    for message in messages[1:4]:
        waiting.confirm(message)
    assert waiting.holding_up(3, 0) is None
    waiting.confirm(messages[4])
    assert waiting.holding_up(3, 0) is messages[0]
    assert waiting.holding_up(3, 60) is None
    waiting.confirm(messages[0])
    waiting.release()
    assert waiting.holding_up(0, 0) is None


def test_a_request_is_safe_when_the_broker_has_its_answer() -> None:
    """In the order of the answers, however many are on their way, and not before."""
    waiting = Acknowledgements(lambda _: None)
    messages = [waiting.add(mid) for mid in range(50)]
    told = [MQTTMessageInfo(mid) for mid in range(50)]
    answers = Answers()
    for answer, message in zip(told, messages, strict=True):
        answers.add(answer, [message])
    assert list(answers.arrived()) == []
    for number in (0, 1, 3):
        told[number]._set_as_published()
    assert list(answers.arrived()) == messages[:2]
    told[2]._set_as_published()
    assert list(answers.arrived()) == messages[2:4]
    assert len(answers) == 46


def test_an_answer_without_a_connection_holds_up_nobody() -> None:
    """Its request comes again by the next connection; this one's acknowledgement would reach nobody."""
    waiting = Acknowledgements(lambda _: None)
    messages = [waiting.add(1), waiting.add(2)]
    lost, told = MQTTMessageInfo(1), MQTTMessageInfo(2)
    lost.rc = MQTTErrorCode.MQTT_ERR_NO_CONN
    told._set_as_published()
    answers = Answers()
    answers.add(lost, messages[:1])
    answers.add(told, messages[1:])
    assert list(answers.arrived()) == messages
