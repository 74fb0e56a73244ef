"""The texts and links of pages, without a server."""

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admin.servers import status
from ingest.console import chain, guard, render, runbook
from ingest.console.pages.login import _own
from ingest.console.sessions import Seals, begin
from tests.conftest import PROJECT

WELL: dict[str, Any] = {
    "kafka": {"lag": 0, "lag_change": 0, "records_per_second": 5.0, "dead_letters_per_second": 0.0},
    "pipeline": {
        "stored_per_second": 4.5,
        "stored": 1200,
        "batches": 3,
        "counted_since": "2026-05-01T10:00:00Z",
    },
    "outbox": {"entries": 0, "oldest_seconds": 0},
    "letters": {"kept_days": 14},
    "alerts": {"TRIGGERED": 1},
    "rules": {},
    "channels": {},
    "breaker": "closed",
    "processes": {"gateway": "", "bridge": "", "worker": "", "control": "", "beat": ""},
}


def test_the_console_has_the_runbook_of_the_docs() -> None:
    """`cp docs/runbook.md ingest/console/runbook.md` after a change: an installation has no docs."""
    assert runbook.text() == (PROJECT / "docs" / "runbook.md").read_text()


def test_whatever_is_wrong_leads_to_an_entry_of_the_runbook() -> None:
    """Each kind of problem has one, and the page has its place."""
    away = {"away": "no route"}
    worst = WELL | {
        **dict.fromkeys(("kafka", "pipeline", "alerts"), away),
        "breaker": "open",
        "processes": {"gateway": "gone"},
    }
    limits = WELL | {
        "kafka": {"lag": 20_000, "lag_change": 9},
        "outbox": {"entries": 1, "oldest_seconds": 500},
        "letters": {"share_high": 1, "oldest_unhandled_days": 13, "kept_days": 14},
        "channels": {"untaken_seconds": 500.0},
        "rules": {"invalid": 1},
    }
    found = [*status.wrong_with(worst), *status.wrong_with(limits)]
    assert len(found) == 11
    headings = set(re.findall(r"^## (.+)$", runbook.text(), re.MULTILINE))
    assert {one.entry for one in found} <= headings
    page = str(runbook.as_html())
    for one in found:
        assert f'id="{runbook.anchor(one.entry)}"' in page
    assert status.wrong_with(WELL) == []
    assert status.problems(worst) == [one.text for one in status.wrong_with(worst)]


def test_the_runbook_is_text_without_links_to_pages_that_are_not_here() -> None:
    """Links to places in it stay."""
    page = str(runbook.as_html())
    assert re.findall(r'href="(?!#)', page) == []
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


def test_the_chain_shows_what_is_known_and_says_what_is_not() -> None:
    """Each step in a message's order, with its figures, or that they are not known at present."""
    steps = chain.steps(WELL)
    assert [one.name for one in steps] == ["Broker", "Gateway", "Kafka", "Lanes", "Workers", "Database"]
    assert not any(one.wrong for one in steps)
    assert ("counted since", "2026-05-01T10:00:00Z") in steps[5].figures
    assert ("rows written", "1,200") in steps[5].figures
    draining = WELL["kafka"] | {"lag": 1000, "lag_change": -100}
    assert ("done in about", "20 s") in chain.steps(WELL | {"kafka": draining})[2].figures
    nothing = {"away": "no route"}
    dark = WELL | dict.fromkeys(("kafka", "pipeline", "alerts", "outbox"), nothing)
    assert [bool(one.wrong) for one in chain.steps(dark)] == [False, False, True, False, True, True]
    assert all(chain.UNKNOWN in dict(one.figures).values() for one in chain.steps(dark)[1:])
    assert ("beat", "ready") in chain.beside(dark)


def test_each_of_several_domains_has_its_figures() -> None:
    """Its rate, what waits, for how long, and when that is done; of one domain alone there is no table."""
    figures = {"lag": 0, "lag_change": 0, "records_per_second": 1200.5, "dead_letters_per_second": 0.0}
    rows = chain.domains(
        WELL
        | {
            "domains": {
                "telemetry": figures,
                "parcels": figures | {"lag": 1000, "lag_change": -100, "oldest_seconds": 7.5},
                "ticks": figures | {"lag": 10, "lag_change": 4},
            }
        }
    )
    dash = render.DASH
    assert [tuple(row) for row in rows] == [
        ("telemetry", "1,200.5", "0.0", "0", dash, dash),
        ("parcels", "1,200.5", "0.0", "1,000", "7.5 s", "done in about 20 s"),
        ("ticks", "1,200.5", "0.0", "10", chain.UNKNOWN, "more each second 2"),
    ]
    assert chain.domains(WELL) == []


@given(st.text() | st.sampled_from(["//a", "/\\a", "https://a/", "/devices?search=a", "/login", "/a\r\nb"]))
def test_who_signs_in_stays_here(wanted: str) -> None:
    """Wherever a link wanted to lead."""
    target = _own(wanted)
    parts = urlsplit(target)
    assert (parts.scheme, parts.netloc) == ("", "")
    assert re.fullmatch(r"/(?![/\\])[\x20-\x7e]*", target)


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_an_address_holds_any_id(query: dict[str, str]) -> None:
    """Slashes, dots, signs and all; what is empty is left out."""
    parts = urlsplit(render.url("/device", **{f"x{name}": value for name, value in query.items()}))
    wanted = [(f"x{name}", value) for name, value in query.items() if value]
    assert parse_qsl(parts.query, keep_blank_values=True) == wanted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, render.DASH),
        (1234, "1,234"),
        (True, "true"),
        (0.1 + 0.2, "0.3"),
        ("a", "a"),
        ({"a": [1]}, '{"a": [1]}'),
        (datetime(2026, 3, 2, tzinfo=UTC), "2026-03-02 00:00:00 UTC"),
    ],
)
def test_values_are_shown_as_people_write_them(value: object, text: str) -> None:
    """Numbers with their thousands, times in UTC, a dash for nothing."""
    assert render.shown(value) == text


def test_requests_are_counted_to_who_makes_them() -> None:
    """By the cookie; one that is none of ours is a stranger's."""
    seals = Seals("operator-of-the-tests")
    operator = f"a=b; {guard.COOKIE}={seals.cookie(begin('operator', None))}"
    tenant = f"{guard.SECURE_COOKIE}={seals.cookie(begin('token', 'ada', 't1'))}"
    assert guard.share(seals, operator) == ("operator", 1.0)
    assert guard.share(seals, tenant) == ("tenant ada", 0.5)
    # Other applications of the host may set cookies that are not well-formed.
    assert guard.share(seals, 'x={"a": 1}; ' + operator) == ("operator", 1.0)
    for header in ("", "x", f"{guard.COOKIE}=a.b", "a=\x00;;=", urlencode({"a": "ü"})):
        assert guard.share(seals, header) == ("strangers", 0.25)
