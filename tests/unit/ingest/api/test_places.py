"""Only some callers may do long work at the same time."""

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.api.callers import Caller
from ingest.api.places import Places
from ingest.api.problems import Busy

OPERATOR = Caller(None)


def test_a_tenant_leaves_places_to_others_and_all_tenants_one_to_the_operator() -> None:
    """A caller that finds none is refused at once, and gets one when another is done."""
    places = Places("wait for a worker", 4, 2)
    with ExitStack() as held:
        for name in ("ada", "ada", "bob"):
            held.enter_context(places.one(Caller(name)))
        for name, said in (("ada", "of this user wait for a worker"), ("eve", "3 requests wait")):
            with pytest.raises(Busy, match=said), places.one(Caller(name)):
                pass
        with places.one(OPERATOR), pytest.raises(Busy), places.one(OPERATOR):
            pass
    with places.one(Caller("ada")), places.one(Caller("ada")), places.one(Caller("eve")):
        pass


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([None, "ada", "bob", "eve"]))))
def test_no_bound_is_passed_and_every_place_comes_back(steps: list[tuple[bool, str | None]]) -> None:
    """In whatever order they are taken and given back, also after a failure."""
    places = Places("wait", 3, 1)
    held: list[tuple[str | None, ExitStack]] = []
    for takes, name in steps:
        if not takes:
            if held:
                held.pop(0)[1].close()
            continue
        stack = ExitStack()
        names = [one for one, _ in held]
        room = len(names) < 3 if name is None else len(names) < 2 and name not in names
        try:
            stack.enter_context(places.one(Caller(name)))
        except Busy:
            assert not room
        else:
            assert room
            held.append((name, stack))
    for _, stack in held:
        stack.close()
    assert not places._taken
