"""The console in a real browser: an operator on call, a tenant, and somebody with a telephone."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import psycopg
import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Keys, Remote
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait

from compose.local.stack import Stack
from ingest.admin.accounts import accounts, provision
from tests.integration import chromium, fleet, web_process
from tests.integration.console_client import Person
from tests.integration.stream import Written, cold_only, reading, sequence_ids
from tests.integration.subscriber import Subscriber, subscriber
from tests.integration.web_process import OPERATOR, Web

Database = psycopg.Connection[tuple[Any, ...]]
HOT = {"id": "hot", "key": "temperature", "operator": ">", "threshold": 80, "message": "Too hot"}
HIDDEN = re.compile(r'type="hidden" name="(\w+)" value="([^"]*)"')
FIELDS = "input:not([type=hidden]), select, textarea, button"
WIDER = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def web(stack: Stack) -> Iterator[Web]:
    """The process, with no more rights than its role has."""
    with web_process.role(stack) as url, web_process.running(stack, DATABASE_URL=url) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Remote]:
    """One browser for the journeys; each signs in again."""
    with chromium.running() as remote:
        yield remote


@pytest.fixture
def listening(pipeline: Stack, database: Database) -> Iterator[Subscriber]:
    """A user with the rule `hot` and a pump that is too hot."""
    with subscriber(pipeline, uuid4().hex[:8]) as one:
        (pump,) = fleet.devices(pipeline, [(one.user, "pump")])
        assert one.ask("config", {"rules": [HOT]})["ok"]
        pump.publish(json.dumps({"sequence_id": 1, "temperature": 99}).encode())
        one.told(1)
        fleet.disconnect([pump])
        database.execute(
            "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen, own_time)"
            " VALUES (%s, 'pump', 'telemetry', now(), now(), now() - interval '1 min')"
            " ON CONFLICT DO NOTHING",
            [one.user],
        )
        yield one


class Visit:
    """Somebody at the browser."""

    def __init__(self, browser: Remote, web: Web) -> None:
        self._browser, self._url = browser, web.url
        browser.delete_all_cookies()
        self.go("/")

    def go(self, path: str) -> None:
        """Opens a page."""
        self._browser.get(f"{self._url}{path}")

    def fill(self, **fields: str) -> None:
        """Types into the fields of these ids."""
        for name, text in fields.items():
            field = self._browser.find_element(By.ID, name)
            field.clear()
            field.send_keys(text)

    def press(self, words: str, form: str = "main") -> None:
        """Presses the button with these words."""
        within = self._browser.find_element(By.CSS_SELECTOR, form)
        self._leave(within.find_element(By.XPATH, f".//button[normalize-space()='{words}']").click)

    def enter(self, field: str) -> None:
        """Sends the form of a field by the keyboard."""
        within = self._browser.find_element(By.ID, field)
        self._leave(lambda: within.send_keys(Keys.ENTER))

    def follow(self, words: str) -> None:
        """Follows the link with these words."""
        self._leave(self._browser.find_element(By.LINK_TEXT, words).click)

    def _leave(self, by: Callable[[], None]) -> None:
        page = self._browser.find_element(By.TAG_NAME, "html")
        by()
        # While a page is being replaced, the driver may answer with any error; it is asked again.
        wait = WebDriverWait(self._browser, 60, ignored_exceptions=[WebDriverException])
        wait.until(staleness_of(page))

    def picture(self, name: str) -> None:
        """Keeps a picture of the page where `make pictures` asks for them."""
        if folder := os.environ.get("SLUICE_PICTURES"):
            self._browser.set_window_size(1100, 900)
            Path(folder).mkdir(parents=True, exist_ok=True)
            assert self._browser.save_screenshot(str(Path(folder) / f"{name}.png"))

    def text(self, selector: str = "main") -> str:
        """The text of a part of the page."""
        return str(self._browser.find_element(By.CSS_SELECTOR, selector).text)


def test_an_operator_on_call_acknowledges_an_alert(browser: Remote, web: Web, listening: Subscriber) -> None:
    """From the first page to the device and its alert; who acknowledged it and when is seen by all."""
    visit = Visit(browser, web)
    visit.fill(token=OPERATOR, person="Grace")
    visit.press("Sign in", "form")
    assert "The way of a message" in visit.text()
    visit.picture("console-top")
    # Whatever else is open on this stack.
    visit.follow("Devices")
    visit.fill(search=listening.user)
    visit.press("Show")
    visit.follow(f"{listening.user}/pump")
    assert "temperature\n99" in visit.text()
    assert browser.find_elements(By.CSS_SELECTOR, "svg.chart circle")
    visit.picture("console-device")
    visit.follow("Too hot")
    assert visit.text("#acknowledged") == "no"
    visit.fill(note="on my way")
    visit.press("Acknowledge")
    assert "The alert is acknowledged." in visit.text()
    assert visit.text("#acknowledged").endswith("UTC by sluice-web/operator Grace: “on my way”")
    assert listening.told(2)[-1] == ("pump", "ACKNOWLEDGED")
    assert listening.notices[-1]["note"] == "on my way"
    visit.picture("console-alert")
    visit.fill(minutes="soon")
    visit.press("Snooze")
    assert "A snooze needs a number of minutes; got soon." in visit.text("[role=alert]")
    visit.fill(minutes="30")
    visit.press("Snooze")
    assert "SNOOZED until" in visit.text()
    # The whole of it again, as somebody else finds it.
    visit.press("Sign out", "header")
    assert "Sign in to Sluice" in visit.text()


def test_a_tenant_sees_the_tenants_own(
    browser: Remote, web: Web, listening: Subscriber, database: Database
) -> None:
    """Signed in by the account of the tenant's programs; another's device is not there."""
    other = f"o{uuid4().hex[:8]}"
    database.execute(
        "INSERT INTO devices (user_id, device_id, domain, first_seen, last_seen)"
        " VALUES (%s, 'secret', 'telemetry', now(), now())",
        [other],
    )
    credential = provision.provision(database, accounts.user(listening.user))
    visit = Visit(browser, web)
    visit.go(f"/device?user={listening.user}&device=pump")
    visit.fill(user=credential.username, password=credential.password)
    visit.press("Sign in", "form:nth-of-type(2)")
    assert visit.text("h1") == f"{listening.user}/pump"
    visit.go("/")
    assert "1 alert is open" in visit.text("#sentence")
    visit.follow("Devices")
    assert (f"{listening.user}/pump" in visit.text(), other in visit.text()) == (True, False)
    visit.go(f"/device?user={other}&device=secret")
    assert visit.text("h1") == "This did not work"
    assert "404" in visit.text()
    visit.follow("Rules")
    assert "temperature > 80: warning, “Too hot”" in visit.text("main ul")
    visit.fill(document=json.dumps({"rules": [{**HOT, "operator": "above"}]}))
    visit.press("Replace the rules")
    assert "rules.0.operator" in visit.text("[role=alert]")
    fleet.wait_until(lambda: sequence_ids(database, listening.user) == [1], 60, "the reading")
    database.execute(
        "INSERT INTO raw_telemetry (time, user_id, device_id, sequence_id, temperature)"
        " SELECT now() - n * interval '30 min', %s, 'pump', n, 82 + 12 * sin(n / 17.0)"
        " FROM generate_series(2, 330) AS n",
        [listening.user],
    )
    visit.fill(document=json.dumps({"rules": [{**HOT, "threshold": 90}]}), device="pump")
    # By the keyboard: the key that sends a form tries the rules, and does not replace them.
    visit.enter("device")
    assert "330 readings of 1 device in the last week" in visit.text()
    assert "hot: would have fired 4 times on 1 device" in visit.text()
    assert len(browser.find_elements(By.CSS_SELECTOR, "svg.chart rect.open")) == 4
    visit.picture("console-rules")
    size = browser.get_window_size()
    browser.set_window_size(500, 900)
    assert browser.execute_script(WIDER) == 0
    browser.set_window_size(size["width"], size["height"])
    visit.press("Replace the rules")
    assert "1 rule is in force" in visit.text("[role=status]")
    assert "temperature > 90" in visit.text("main ul")


@pytest.mark.usefixtures("beat")
def test_a_newcomer_comes_from_a_first_reading_to_an_acknowledged_alert(
    pipeline: Stack, browser: Remote, web: Web
) -> None:
    """The tutorial's steps in the browser: an account, a chart, a rule that was tried, an alert seen to."""
    user = f"n{uuid4().hex[:8]}"
    visit = Visit(browser, web)
    visit.fill(token=OPERATOR)
    visit.press("Sign in", "form")
    visit.follow("Accounts")
    visit.fill(owner=user, devices="freezer")
    visit.press("Make them")
    password = visit.text("td code")
    credential = provision.Credential(f"{user}/freezer", password)
    freezer = fleet.Device(user, "freezer", fleet.connect(pipeline, credential))
    freezer.publish(json.dumps({"sequence_id": 1, "temperature": 4.5, "door": "closed"}).encode())
    freezer.await_acknowledged(60)

    def shows(page: str, text: str, **filters: str) -> bool:
        visit.follow(page)
        visit.fill(**filters)
        visit.press("Show")
        return text in visit.text()

    fleet.wait_until(lambda: shows("Devices", f"{user}/freezer", search=user), 120, "the device to be known")
    visit.follow(f"{user}/freezer")
    assert "temperature\n4.5" in visit.text()
    assert browser.find_elements(By.CSS_SELECTOR, "svg.chart circle")
    visit.follow("Rules")
    visit.fill(user=user)
    visit.press("Show")
    warm = {"key": "temperature", "operator": ">", "threshold": 8, "message": "too warm"}
    visit.fill(document=json.dumps({"rules": [warm]}))
    visit.press("Try on history")
    assert "1 reading of 1 device in the last week" in visit.text()
    visit.press("Replace the rules")
    assert "temperature > 8: warning, “too warm”" in visit.text("main ul")
    freezer.publish(json.dumps({"sequence_id": 2, "temperature": 9.5, "door": "open"}).encode())
    freezer.await_acknowledged(60)
    fleet.wait_until(lambda: shows("Alerts", "too warm", user=user), 120, "the alert")
    visit.follow("too warm")
    visit.fill(note="the door was open, I closed it")
    visit.press("Acknowledge")
    assert visit.text("#acknowledged").endswith("“the door was open, I closed it”")
    fleet.disconnect([freezer])


def test_the_pages_are_for_telephones_and_for_keyboards(
    pipeline: Stack, browser: Remote, web: Web, listening: Subscriber
) -> None:
    """Nothing is wider than a small screen, the first key leads past the links, fields have labels.

    However long a name is that has no place to break.
    """
    long = "m" * 120
    (device,) = fleet.devices(pipeline, [(listening.user, long)])
    device.publish(b"[]")
    visit = Visit(browser, web)
    visit.fill(token=OPERATOR)
    visit.press("Sign in", "form")
    user = listening.user
    about = f"user={user}&device=pump"
    paths = (
        *("/", "/devices", "/alerts", "/alerts/history", "/dead-letters", "/accounts", "/runbook", "/login"),
        *(f"/device?{about}", f"/alert?{about}&rule=hot", f"/rules?{about}", f"/account?{about}"),
        *(f"/dead-letters?user={user}&since=1h", f"/device?user={user}&device={long}"),
    )

    def refused() -> bool:
        visit.go(f"/dead-letters?user={user}&since=1h")
        return long in visit.text()

    fleet.wait_until(refused, 60, "the dead letter")
    fleet.disconnect([device])
    size = browser.get_window_size()
    browser.set_window_size(500, 900)
    try:
        for path in paths:
            visit.go(path)
            assert browser.execute_script(WIDER) == 0, path
            browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
            assert browser.switch_to.active_element.get_attribute("class") == "skip", path
            fields = browser.find_elements(By.CSS_SELECTOR, FIELDS)
            assert all(one.accessible_name for one in fields), path
    finally:
        browser.set_window_size(size["width"], size["height"])


def test_dead_letters_are_counted_and_then_replayed(pipeline: Stack, web: Web, database: Database) -> None:
    """By reason, device and hour; the replay begins from the dry run, and its rows are there at its end.

    A letter that came after the look is not closed.
    """
    user = f"u{uuid4().hex[:8]}"
    written = Written(pipeline, user)
    with cold_only(database, user):
        written.write([reading(number, temperature=200) for number in (7, 8)])
    credential = provision.provision(database, accounts.user(user))
    person = Person(web)
    person.sign_in(user=user, secret=credential.password)
    listed = person.get("/dead-letters", device="d", since="1h")
    assert "2 open dead letters match." in listed.text
    assert '"sequence_id": 7' in listed.text
    fields = {"device": "d", "since": "1h"}
    counted = person.send("/dead-letters/replays", "/dead-letters", **fields, dry_run="yes")

    def ended(page: str) -> bool:
        return "It has ended." in person.get(page).text

    fleet.wait_until(lambda: ended(counted.path), 60, "the dry run")
    assert "<dt>selected</dt><dd>2</dd>" in person.get(counted.path).text
    done = person.send("/dead-letters/replays", counted.path, **fields)
    fleet.wait_until(lambda: ended(done.path), 60, "the replay")
    fleet.wait_until(lambda: {7, 8} <= set(sequence_ids(database, user)), 60, "the rows")
    written.write([b"[]"])
    looked = person.get("/dead-letters", since="1h", error_type="NotAnObject")
    assert "1 open dead letter matches." in looked.text
    (group,) = re.findall(r'<td><a href="(/dead-letters[?][^"]*hour=[^"]*)"', looked.text)
    looked = person.get(group)
    assert "1 open dead letter matches." in looked.text
    assert f'value="{parse_qs(group)["hour"][0]}"' in looked.text
    assert "0 open dead letters match." in person.get("/dead-letters", hour="1d").text
    written.write([b"[]"])
    seen = dict(HIDDEN.findall(looked.text.partition('id="close"')[2].partition("</form>")[0]))
    closed = person.post("/dead-letters/close", **seen)
    assert "1 dead letter is closed." in closed.text
    later = person.get("/dead-letters", since="1h", error_type="NotAnObject")
    assert "1 open dead letter matches." in later.text
    other = Person(web)
    other.sign_in(secret=OPERATOR)
    assert other.get(done.path).status == 200
