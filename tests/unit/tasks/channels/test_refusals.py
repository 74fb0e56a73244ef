"""Connections that are refused: what users see of it, and that libraries end inside the guard."""

import gc
import socket
from contextlib import suppress
from typing import Any

import pytest
import structlog

from tasks.channels import attempt, chat, guard
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Never, Sent
from tests.unit.tasks.channels.claims import claim

NAMES = {"inner.example": "10.2.3.4", "moment.example": "0.0.0.0", "local.example": "::1"}  # noqa: S104


def resolve(host: Any, port: Any, *_: Any, **__: Any) -> Any:
    """As DNS does: some names are of inner addresses, others are not known."""
    host = host.decode() if isinstance(host, bytes) else str(host)
    address = host if guard.is_address(host) else NAMES.get(host)
    if address is None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return [(family, socket.SOCK_STREAM, 6, "", (address, port))]


@pytest.mark.parametrize("kind", ["webhook", "apprise"])
def test_users_do_not_learn_which_inner_names_there_are(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of an inner address and one that is not known fail alike, and for now; the log has more."""
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    before = "https://" if kind == "webhook" else "ntfys://"
    with structlog.testing.capture_logs() as lines:
        unknown = attempt.attempt(claim(kind, f"{before}unknown.example/t0ken"))
        assert not lines
        assert isinstance(unknown, Later)
        assert "CHANNEL_ALLOWED_NETWORKS" in unknown.why
        for name in NAMES:
            assert attempt.attempt(claim(kind, f"{before}{name}/t0ken")) == unknown
    assert [line["error"].split()[0] for line in lines] == list(NAMES.values())
    assert "example" not in str(lines)
    assert "t0ken" not in str(lines)


@pytest.mark.parametrize("target", ["https://10.2.3.4/", "https://[::1]:8443/", "https://[::ffff:10.2.3.4]/"])
def test_an_inner_address_as_a_target_is_given_up_at_once(target: str) -> None:
    """It stays what it is, unlike what a name means."""
    outcome = attempt.attempt(claim(target=target))
    assert isinstance(outcome, Never)
    assert "CHANNEL_ALLOWED_NETWORKS" in outcome.why


class Parting:
    """A service that asks for something as it goes, as that of Matrix does: guarded or not, is noted."""

    def __init__(self, error: Exception | None, gone: list[bool]) -> None:
        self.error, self.gone, self.verify_certificate = error, gone, True

    def __len__(self) -> int:
        return 1

    def notify(self, **_: Any) -> bool:
        """Succeeds, or fails by an error whose frames keep this."""
        if self.error is None:
            return True
        raise self.error

    def __del__(self) -> None:
        self.gone.append(guard.is_active())
        with suppress(guard.AddressRefused):
            socket.create_connection(("10.2.3.4", 9), 1)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Sent()),
        (guard.AddressRefused("10.2.3.4"), Later(chat.NOT_TOLD)),
        (ConnectionError(), Later("the connection failed: ConnectionError")),
        (ValueError(), Later("an error inside Sluice: ValueError")),
    ],
)
def test_a_service_of_apprise_ends_inside_the_guard(
    error: Exception | None, outcome: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is guarded, done once, and does not change the reported outcome."""
    gone: list[bool] = []
    library = type("Library", (), {})()
    library.Apprise = type("Apprise", (), {"instantiate": lambda *_, **__: Parting(error, gone)})
    monkeypatch.setattr(chat, "_options", lambda _: set())
    monkeypatch.setattr(chat, "_library", lambda: library)
    monkeypatch.setattr(chat, "_asset", lambda: None)
    assert attempt.attempt(claim("apprise", "ntfys://example.com/topic")) == outcome
    if error is not None:
        error.__traceback__ = None
    gc.collect()
    assert gone == [True]


def test_a_target_that_is_looked_at_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does the service that is made for the look, as it goes."""
    gone: list[bool] = []
    library = type("Library", (), {})()
    library.Apprise = type("Apprise", (), {"instantiate": lambda *_, **__: Parting(None, gone)})
    monkeypatch.setattr(chat, "_options", lambda _: set())
    monkeypatch.setattr(chat, "_library", lambda: library)
    monkeypatch.setattr(chat, "_asset", lambda: None)
    assert chat.problem("ntfys://example.com/topic") == ""
    gc.collect()
    assert gone == []


def test_what_a_sender_leaves_goes_inside_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error's frames keep the objects of libraries: they go before the guard does."""
    gone: list[bool] = []

    def send(_: Claim) -> Sent:
        service = Parting(None, gone)
        raise ConnectionError(len(service))

    monkeypatch.setitem(attempt._SENDERS, "webhook", send)
    assert isinstance(attempt.attempt(claim()), Later)
    assert gone == [True]
