"""How many replays may be under way: they share the workers' children with the pipeline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.api import replay_places
from ingest.api.callers import Caller
from ingest.api.problems import Refused
from ingest.api.replay_places import MOST, check, check_rate
from ingest.mqtt.rate_limits import RateLimit

OPERATOR = Caller(None)
USERS = st.lists(st.sampled_from([None, "ada", "bob", "eve"]), max_size=MOST)


def refused(caller: Caller, under_way: list[str | None]) -> bool:
    """Whether the caller has to wait."""
    try:
        check(caller, under_way)
    except Refused as error:
        return error.status == 429 and "Retry-After" in error.headers
    return False


@given(USERS)
def test_a_tenant_has_one_replay_and_all_tenants_leave_one_to_the_operator(
    under_way: list[str | None],
) -> None:
    """No matter who began it: a count of one tenant's letters is that tenant's, even the operator's count."""
    assert refused(Caller("ada"), under_way) == ("ada" in under_way or len(under_way) >= MOST - 1)
    assert refused(OPERATOR, under_way) == (len(under_way) >= MOST)


def test_a_tenant_begins_few_runs_in_the_long_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leaves a line in the table of runs and in the operators' trail; the operator is not limited."""
    monkeypatch.setattr(replay_places, "_runs", RateLimit(1 / 30, 60.0, lambda: 0.0))
    for _ in range(2):
        check_rate(Caller("ada"))
    with pytest.raises(Refused, match="every 30 s"):
        check_rate(Caller("ada"))
    check_rate(Caller("bob"))
    for _ in range(9):
        check_rate(OPERATOR)


@given(st.sampled_from([None, "ada", "a b", "ü"]))
def test_what_was_sent_is_read_back(user_id: str | None) -> None:
    """From Redis, where it stands until a worker has begun it."""
    sent = replay_places.Sent("run-1", user_id)
    assert replay_places._sent(replay_places._member(sent)) == sent
