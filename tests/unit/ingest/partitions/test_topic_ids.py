"""What Kafka's client says of its topics' ids."""

import logging

import pytest

from ingest.partitions.topic_ids import TopicIds

NONE = "A" * 22


def heard(ids: TopicIds, text: str, level: int = logging.DEBUG) -> bool:
    """The client logs this; whether it is logged on."""
    return ids.filter(
        logging.LogRecord("librdkafka", level, "", 0, "METADATA [thrd:main]: %s", (text,), None)
    )


def test_a_topic_with_another_id_is_named_until_it_is_known_by_it() -> None:
    """Whether the client had it under the known id before or not."""
    ids = TopicIds()
    assert not heard(ids, f"Topic stream changed id from {NONE} to one+/")
    assert ids.others({"stream": "one+/"}) == set()
    assert ids.others({"stream": "two", "other": "x"}) == {"stream"}
    assert not heard(ids, "Topic stream changed id from one+/ to two")
    assert ids.others({"stream": "one+/"}) == {"stream"}
    assert ids.others({"stream": "two"}) == set()


def test_nobody_knows_an_id() -> None:
    """A broker without ids, positions that are not read yet, and a silent client raise no doubt."""
    ids = TopicIds()
    assert ids.others({"stream": "one"}) == set()
    heard(ids, f"Topic stream changed id from {NONE} to one")
    assert ids.others({}) == ids.others({"stream": ""}) == set()


@pytest.mark.parametrize(("level", "passes"), [(logging.DEBUG, False), (logging.INFO, False), (40, True)])
def test_the_log_has_no_more_lines_than_before(level: int, passes: bool) -> None:
    """The client's debug lines that only we need are not logged; its warnings are."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.WARNING)
    try:
        assert heard(TopicIds(), "Topic stream changed id from one to two", level) == passes
    finally:
        root.setLevel(before)
