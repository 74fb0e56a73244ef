"""The console: who gets in, what forms need, and what is said when a server is away."""

from uuid import uuid4

from fastapi.routing import APIRoute

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision, tokens
from ingest.console.application import ROOMS
from tests.integration.console_client import Page, Person, token
from tests.integration.console_fixtures import Database, user, web
from tests.integration.fleet import wait_until
from tests.integration.web_process import OPERATOR, Web

__all__ = ["user", "web"]

OPERATORS_ALONE = {"/accounts/csv", "/accounts/csv/make"}
FORGED = {"form_token": "x"}
ROUTES = [
    (route.path, method)
    for room in ROOMS
    for route in room.router.routes
    if isinstance(route, APIRoute)
    for method in route.methods or ()
]
PAGES = [
    path for path, method in ROUTES if method == "GET" and path not in {"/login", "/dead-letters/replay"}
]


def test_people_sign_in_and_out(web: Web, database: Database, user: str) -> None:
    """By the operator's token, a tenant's, or the user's account; each ends as soon as what it is by does."""
    made = tokens.create(database, user)
    credential = provision.provision(database, accounts.user(user))
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
        # The operator's page has the devices that are silent for longest, of all users.
        assert f"{user}/fridge" in answer.text or who.startswith("operator")
        assert {"default-src 'none'", "form-action 'self'"} <= set(
            answer.headers["content-security-policy"].split("; ")
        )
        (cookie,) = [one for one in person.cookies if one.name == "sluice_session"]
        assert cookie.has_nonstandard_attr("HttpOnly")
        assert person.send("/logout", "/").path == "/login"
        # A copy of the cookie is worth nothing.
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
    provision.provision(database, accounts.user(user))
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


def test_no_page_is_for_who_has_not_signed_in(web: Web) -> None:
    """Each leads to the page where one signs in, and no form does anything, with or without a session."""
    stranger, operator = Person(web), Person(web)
    operator.sign_in(secret=OPERATOR)
    assert len(ROUTES) > 15
    for path, method in ROUTES:
        if path == "/login":
            continue
        answer = stranger.get(path) if method == "GET" else stranger.post(path, user="u", **FORGED)
        assert (answer.status, answer.path.partition("?")[0]) == (200, "/login"), path
        if method == "POST":
            assert operator.post(path, user="u").status == 403, path
            assert operator.post(path, user="u", **FORGED).status == 403, path
    answer = stranger.get("/nothing")
    assert (answer.status, "There is no such page" in answer.text) == (404, True)


def test_for_a_tenant_there_is_nothing_of_others(web: Web, database: Database, user: str) -> None:
    """404 for what is another tenant's, as for what is not; lists have the own alone."""
    other = f"o{uuid4().hex[:8]}"
    operator, own, foreign = Person(web), Person(web), Person(web)
    operator.sign_in(secret=OPERATOR)
    own.sign_in(secret=tokens.create(database, user).token)
    foreign.sign_in(secret=tokens.create(database, other).token)
    provision.provision(database, accounts.device(user, "fridge"))
    for path in ("/", "/devices", "/alerts", "/accounts", "/alerts/history"):
        assert (f"{user}/fridge" in own.get(path).text) == (path != "/alerts/history"), path
        assert (user in foreign.get(path).text, foreign.get(path).status) == (False, 200), path
    about = {"user": user, "device": "fridge", "rule": "hot"}
    for path in (
        "/device",
        "/alert",
        "/account",
        "/rules",
        "/alerts",
        "/alerts/history",
        "/dead-letters",
        "/accounts",
    ):
        assert own.get(path, **about).status == 200, path
        assert operator.get(path, **about).status == 200, path
        refused = foreign.get(path, **about)
        nothing = foreign.get(path, **{**about, "user": "nobody"})
        assert (refused.status, nothing.status) == (404, 404), path
        assert _said(refused).replace(user, "nobody") == _said(nothing), path
    fields = {**about, "action": "ACKNOWLEDGE", "document": "[]", "devices": "fridge", "dry_run": "yes"}
    for path, method in ROUTES:
        if method == "POST" and path not in {"/login", "/logout"}:
            refused = foreign.send(path, "/devices", **fields)
            assert refused.status == (403 if path in OPERATORS_ALONE else 404), path
    assert own.get("/runbook").status == 403
    assert "Breaker open" in operator.get("/runbook").text


def _said(page: Page) -> str:
    return page.text.partition('role="alert"')[2].partition("</p>")[0]


def test_what_is_away_is_said_on_every_page_and_the_operator_still_gets_in(
    web: Web, stack: Stack, database: Database, user: str
) -> None:
    """Without Redis, then without the database, too, then without that alone: no page breaks.

    The first page says what is wrong and what to do about it; a tenant reads no address.
    """
    before, tenant = Person(web), Person(web)
    before.sign_in(secret=OPERATOR)
    tenant.sign_in(secret=tokens.create(database, user).token)
    provision.provision(database, accounts.device(user, "fridge"))
    with_forms = before.get("/rules", user=user)
    about = {"user": user, "device": "fridge", "rule": "hot"}
    forms = {"form_token": token(with_forms), **about, "document": '{"rules": []}', "action": "ACKNOWLEDGE"}

    def walk() -> dict[str, int]:
        """The answer to each page, and to forms that need a worker; a refused form says why."""
        asked = {path: before.get(path, **about) for path in PAGES}
        asked["set rules"] = before.post("/rules", **forms)
        asked["acknowledge"] = before.post("/alert", **forms)
        asked["try rules"] = before.post("/rules/rehearse", **forms)
        asked["make accounts"] = before.post("/accounts", **forms, devices=uuid4().hex[:8])
        for path, page in asked.items():
            assert page.status in {200, 503}, (path, page)
            if page.status == 503:
                said = _said(page)
                assert any(one in said for one in ("Redis", "REDIS_URL", "database")), (path, said)
                assert page.headers["retry-after"] == "5", path
        return {path: page.status for path, page in asked.items()}

    stack.stop("redis")
    try:
        without_redis = walk()
        stack.stop("postgres")
        new = Person(web)
        # A look at everything holds for some seconds: this one may be from before the database went.
        wait_until(lambda: "database does not" in before.get("/").text, 60, "the page to see it")
        pages = [before.get("/"), new.sign_in(secret=OPERATOR)]
        without_both = walk()
        stack.start("redis")
        without_database = walk()
        tenants = {path: tenant.get(path, **about) for path in PAGES}
        out = new.send("/logout", "/")
    finally:
        stack.start("redis")
        stack.start("postgres")
    for page in pages:
        assert page.status == 200
        assert "<strong>Wrong:</strong> Redis does not answer" in page.text
        assert "the database does not answer" in page.text.lower()
        assert 'href="/runbook#redis-refuses"' in page.text
    need_redis = {"set rules", "acknowledge"}
    assert {path for path, status in without_redis.items() if status == 503} == need_redis
    # Dead letters are in Kafka.
    need_no_database = {"/", "/runbook", "/dead-letters"}
    assert {path for path, status in without_database.items() if status == 200} <= need_no_database
    assert without_both == without_database
    for path, page in tenants.items():
        assert (page.status, "127.0.0.1" in page.text) == (503, False), path
    assert out.path == "/login"
    assert {before.get(path, **about).status for path in PAGES} == {200}
    assert tenant.get("/devices").status == 200
