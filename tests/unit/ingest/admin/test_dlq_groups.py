"""Dead letters counted, and the newest of them, in bounded memory."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.letters import dlq_groups
from ingest.admin.letters.dlq_outcome import Outlook, Standing, State
from tasks import registry
from tasks.dead_letters.letter import Filters
from tests.unit.ingest.admin.letters import letter


class Kafka:
    """A reader of topics in which nothing was committed."""

    def committed(self, _topic: str) -> dict[int, int]:
        """No offsets."""
        return {}


def count(monkeypatch: pytest.MonkeyPatch, payloads: Iterator[bytes], limit: int) -> dlq_groups.Groups:
    """The groups in a topic with letters of these payloads, while no database answers."""

    @contextmanager
    def reading(_: Any) -> Iterator[Kafka]:
        yield Kafka()

    monkeypatch.setattr(dlq_groups, "reading", reading)
    monkeypatch.setattr(Outlook, "_note_refused_again", lambda *_: None)
    monkeypatch.setattr(
        Outlook, "_letters", lambda *_: (letter(number, one) for number, one in enumerate(payloads))
    )
    monkeypatch.setattr(Outlook, "replayed", lambda *_: {})
    return dlq_groups.count(registry.default(), Filters(), limit, handled=False, seconds=60)


def test_large_letters_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the largest is counted, and the newest come with the beginning of their payloads."""
    tracemalloc.start()
    found = count(monkeypatch, (b"[" * 262_144 for _ in range(600)), 500)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 1024 * 1024
    assert (found.counts.total(), len(found.newest)) == (600, 500)
    shown = found.newest[-1].as_json()
    assert (shown["key"], shown["payload_bytes"], shown["payload_cut"]) == ("telemetry/0/599", 262_144, True)
    assert shown["payload"] == "[" * 4096


def test_a_small_letter_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    shown = count(monkeypatch, iter([b"[]"]), 20).newest[0].as_json()
    assert (shown["payload"], shown["payload_bytes"], shown["payload_cut"]) == ("[]", 2, False)


@given(st.integers(4090, 4100), st.sampled_from("aü字😀"))
def test_a_payload_is_never_cut_inside_a_character(before: int, character: str) -> None:
    """So text stays text."""
    payload = (" " * before + character * 10).encode()
    shown = dlq_groups._shown(Standing(letter(1, payload), State.OPEN)).as_json()
    assert payload.decode().startswith(shown["payload"])
    assert 4093 <= len(shown["payload"].encode()) <= 4096
