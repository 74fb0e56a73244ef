"""Who may ask for what, and how often; without a server."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from ingest.admin.accounts import tokens
from ingest.api.callers import Caller, Gate
from ingest.api.problems import NotFound, Refused
from ingest.api.shares import Share
from tasks.settings import Settings

OPERATOR = "operator-of-the-tests"
TENANT = tokens.PREFIX + "t" * 43


class Tables:
    """Connections to a database with one token, which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The tables themselves are the connection."""
        yield self

    def execute(self, _query: str, values: list[bytes]) -> "Tables":
        """Looks for a token by its hash."""
        self.asked += 1
        self._found = ("ada", "t1") if values == [tokens.hash_of(TENANT)] else None
        return self

    def fetchone(self) -> tuple[str, str] | None:
        """The user, or none."""
        return self._found


@pytest.fixture
def tables() -> Tables:
    """The table of tokens."""
    return Tables()


def gate(tables: Tables, **values: Any) -> Gate:
    """A gate in front of these tables."""
    chosen = Settings(_env_file=None, **{"web_token": OPERATOR, **values})
    return Gate(chosen, tables)  # type: ignore[arg-type]


def status(gate: Gate, token: str | None) -> int:
    """How a request with this token ends."""
    try:
        gate.admit(token, "192.0.2.1")
    except Refused as error:
        return error.status
    return 200


def test_a_token_says_who_asks(tables: Tables) -> None:
    """The operator is known without the database, a tenant by it, and nobody without a token."""
    one = gate(tables)
    assert one.admit(OPERATOR, "") == Caller(None)
    assert tables.asked == 0
    assert one.admit(TENANT, "") == Caller("ada")
    assert [status(one, token) for token in (None, "", "x", OPERATOR[:-1], "ü" * 50)] == [401] * 5
    assert tables.asked == 1
    assert status(gate(tables, web_token=None), OPERATOR) == 401


def test_a_token_that_asks_too_often_is_told_to_wait_and_no_other(tables: Tables) -> None:
    """Ten seconds' worth may come at once."""
    one = gate(tables, web_requests_per_second=0.5)
    assert [status(one, TENANT) for _ in range(7)] == [200] * 5 + [429] * 2
    assert status(one, OPERATOR) == 200


def test_a_token_beyond_its_rate_costs_no_query(tables: Tables) -> None:
    """It was valid before, so it is counted first."""
    one = gate(tables, web_requests_per_second=0.5)
    assert [status(one, TENANT) for _ in range(20)][5:] == [429] * 15
    assert tables.asked == 5


def test_whose_a_request_is_is_known_without_a_query(tables: Tables) -> None:
    """A tenant's once a token was valid; before that a stranger's; without a token nobody's."""
    one = gate(tables)
    assert one.share(f"Bearer {OPERATOR}", "192.0.2.1") == Share("operator", 1.0)
    assert one.share(f"bearer {TENANT}", "192.0.2.1").name == "strangers"
    one.admit(TENANT, "")
    assert one.share(f"Bearer {TENANT}", "192.0.2.1").name == "tenant ada"
    assert tables.asked == 1
    for header in ("", "Bearer", "Bearer x", f"Basic {TENANT}", TENANT):
        with pytest.raises(Refused) as refused:
            one.share(header, "192.0.2.1")
        assert refused.value.status == 401


def test_guesses_from_an_address_soon_cost_no_query(tables: Tables) -> None:
    """And whoever has a valid token there is not kept out by them."""
    one = gate(tables)
    assert status(one, TENANT) == 200
    guesses = [status(one, tokens.PREFIX + f"{number:043}") for number in range(80)]
    assert set(guesses) == {401, 429}
    assert tables.asked < 60
    assert status(one, TENANT) == 200


def test_a_tenant_selects_only_the_tenants_own() -> None:
    """The operator selects anybody, or all."""
    tenant, operator = Caller("ada"), Caller(None)
    assert (tenant.only(None), tenant.only("ada"), operator.only(None), operator.only("bob")) == (
        *("ada", "ada", None, "bob"),
    )
    for caller, wanted in ((tenant, "bob"), (operator, "a/b"), (tenant, "")):
        with pytest.raises(NotFound):
            caller.only(wanted)


def test_guesses_of_the_operator_s_token_are_limited_by_address(tables: Tables) -> None:
    """Beyond them not even the right one counts there; elsewhere it does, and a tenant's does everywhere."""
    one = gate(tables)
    one.admit(TENANT, "192.0.2.1")
    ends = []
    for number in range(200):
        with pytest.raises(Refused) as refused:
            one.share(f"Bearer guess-{number}", "192.0.2.1")
        ends.append(refused.value.status)
    assert ends[:100] == [401] * 100
    assert 429 in ends[100:]
    with pytest.raises(Refused) as refused:
        one.share(f"Bearer {OPERATOR}", "192.0.2.1")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    assert one.share(f"Bearer {TENANT}", "192.0.2.1").name == "tenant ada"
    assert one.share(f"Bearer {OPERATOR}", "192.0.2.2").name == "operator"


def test_an_operator_s_token_that_looks_like_a_tenant_s_is_guessed_no_faster(tables: Tables) -> None:
    """It is compared, so it is counted."""
    one = gate(tables, web_token=tokens.PREFIX + "o" * 43)
    for number in range(110):
        with suppress(Refused):
            one.share(f"Bearer {tokens.PREFIX}{number:043}", "192.0.2.1")
    with pytest.raises(Refused, match="Too many tokens"):
        one.share(f"Bearer {tokens.PREFIX}{'o' * 43}", "192.0.2.1")
