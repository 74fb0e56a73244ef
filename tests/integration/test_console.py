"""The console: who gets in, what forms need, and what the pages say."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from compose.local.stack import Stack
from ingest.admin import accounts, tokens
from tests.integration import web_process
from tests.integration.console_client import Person, token
from tests.integration.web_process import OPERATOR, Web

Database = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def web(stack: Stack) -> Iterator[Web]:
    """The process, with no more rights than its role has."""
    with (
        web_process.role(stack) as url,
        web_process.running(stack, DATABASE_URL=url, WEB_REQUESTS_PER_SECOND="1000") as process,
    ):
        yield process


@pytest.fixture
def user(database: Database) -> str:
    """A user that no other test has, with a device and an open alert of it."""
    name = f"u{uuid4().hex[:8]}"
    database.execute(
        "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen)"
        " VALUES (%s, 'fridge', 'telemetry', now(), now())",
        [name],
    )
    database.execute(
        "INSERT INTO active_alerts"
        " (alert_id, status, user_id, device_id, rule_id, severity, message, count, first_seen)"
        " VALUES (%s, 'TRIGGERED', %s, 'fridge', 'hot', 'warning', '<b>Too hot</b>', 2, now())",
        [f"a-{name}", name],
    )
    return name


def test_people_sign_in_and_out(web: Web, database: Database, user: str) -> None:
    """By the operator's token, a tenant's, or the user's account; each ends as soon as what it is by does."""
    made = tokens.create(database, user)
    credential = accounts.provision(database, accounts.user(user))
    for fields, who in (
        ({"secret": OPERATOR, "person": "Grace"}, "operator Grace"),
        ({"secret": made.token}, user),
        ({"user": user, "secret": credential.password}, user),
    ):
        person = Person(web)
        assert person.get("/runbook").path == "/login?next=%2Frunbook"
        answer = person.sign_in(**fields, next="/")
        assert (answer.status, answer.path) == (200, "/"), answer
        assert f"<span>{who}</span>" in answer.text
        assert f"{user}/fridge" in answer.text
        assert {"default-src 'none'", "form-action 'self'"} <= set(
            answer.headers["content-security-policy"].split("; ")
        )
        (cookie,) = [one for one in person.cookies if one.name == "sluice_session"]
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert person.send("/logout", "/").path == "/login"
        # Who has a copy of the cookie has nothing.
        person.cookies.set_cookie(cookie)
        assert person.get("/").path == "/login"
    for fields in ({"secret": "x"}, {"secret": tokens.PREFIX + "x" * 43}, {"user": user, "secret": "x"}):
        answer = Person(web).sign_in(**fields)
        assert (answer.status, "not known here" in answer.text) == (401, True)
    by_token, by_account = Person(web), Person(web)
    by_token.sign_in(secret=made.token)
    by_account.sign_in(user=user, secret=credential.password)
    tokens.revoke(database, user, made.token_id)
    assert by_token.get("/").path == "/login"
    assert by_account.get("/").path == "/"
    accounts.provision(database, accounts.user(user))
    assert by_account.get("/").path == "/login"


def test_nobody_is_led_elsewhere_after_signing_in(web: Web) -> None:
    """Only to a page of the console."""
    for wanted in ("https://example.org/", "//example.org/", "/\\example.org", "javascript:alert(1)"):
        answer = Person(web).sign_in(secret=OPERATOR, next=wanted)
        assert (answer.status, answer.path) == (200, "/"), wanted
    assert Person(web).sign_in(secret=OPERATOR, next="/runbook").path == "/runbook"


def test_a_form_of_another_site_does_nothing(web: Web) -> None:
    """Signing in and out needs the token that only our page has, of the same session."""
    assert Person(web).post("/login", secret=OPERATOR).status == 403
    person, other = Person(web), Person(web)
    for one in (person, other):
        one.sign_in(secret=OPERATOR)
    assert person.post("/logout").status == 403
    assert person.post("/logout", form_token=token(other.get("/"))).status == 403
    assert person.get("/").path == "/"


def test_what_a_page_shows_is_text(web: Web, database: Database, user: str) -> None:
    """Markup in a rule's message, which a tenant writes, is shown and not obeyed."""
    person = Person(web)
    page = person.sign_in(secret=tokens.create(database, user).token)
    assert ">All well" not in page.text
    assert "<b>Too hot</b>" in page.text  # the client has unescaped it
    with person._opener.open(f"{web.url}/") as raw:
        assert "&lt;b&gt;Too hot" in raw.read().decode()
