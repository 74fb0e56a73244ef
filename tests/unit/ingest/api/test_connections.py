"""Callers' queries at the same time, without a server."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.api import shares
from ingest.api.connections import Connections
from ingest.api.problems import Refused


class Paper(Connections):
    """Connections to no server."""

    @contextmanager
    def _in_transaction(self, *, read_only: bool) -> Iterator[Any]:
        yield read_only


def status(connections: Connections, share: shares.Share, held: ExitStack) -> int:
    """How a query for this share ends; one that is let in runs until the stack is closed."""
    try:
        with shares.counted_to(share):
            held.enter_context(connections.reading())
    except Refused as error:
        return error.status if "Retry-After" in error.headers else 0
    return 200


def test_a_tenant_has_half_of_the_connections_and_the_operator_always_one() -> None:
    """A caller that finds none is refused at once, without a thread that waits."""
    connections = Paper(8, 1.0)
    ada, bob = shares.of_tenant("ada"), shares.of_tenant("bob")
    with ExitStack() as held:
        assert [status(connections, ada, held) for _ in range(6)] == [200] * 4 + [429] * 2
        assert [status(connections, bob, held) for _ in range(4)] == [200] * 3 + [503]
        assert status(connections, shares.STRANGERS, held) == 503
        assert status(connections, shares.OPERATOR, held) == 200
    assert not connections._taken


@given(
    st.integers(1, 9),
    st.lists(st.tuples(st.booleans(), st.sampled_from(["operator", "strangers", "tenant a", "tenant b"]))),
)
def test_no_share_of_connections_is_passed_and_all_come_back(
    most: int, steps: list[tuple[bool, str]]
) -> None:
    """In whatever order queries begin and end."""
    connections = Paper(most, 1.0)
    held: list[tuple[str, ExitStack]] = []
    for begins, name in steps:
        if not begins:
            if held:
                held.pop(0)[1].close()
            continue
        stack = ExitStack()
        if status(connections, shares.Share(name, 0.5), stack) == 200:
            held.append((name, stack))
        bounded = [one for one, _ in held if one != "operator"]
        assert len(bounded) <= max(1, most - 1)
        assert all(bounded.count(one) <= max(1, most // 2) for one in bounded)
    for _, stack in held:
        stack.close()
    assert not connections._taken


def test_what_no_request_asks_for_is_not_a_tenant_s() -> None:
    """The process's own looks at the tables take no tenant's place, and no tenant's bound."""
    assert shares.current() == shares.OPERATOR
    connections = Paper(1, 1.0)
    with ExitStack() as held:
        assert status(connections, shares.of_tenant("ada"), held) == 200
        held.enter_context(connections.reading())
        assert status(connections, shares.of_tenant("bob"), held) == 503
