"""Mails: by what one is recognised, and what a mail server's answers mean."""

import smtplib
from typing import Any

import pytest

from tasks.channels import attempt, mail
from tasks.channels.outcome import Later, Never, Sent
from tests.unit.tasks.channels.claims import claim, settings_of


def test_a_mail_is_recognised_when_it_comes_again() -> None:
    """By its Message-ID; its subject is one line."""
    composed = mail.compose(claim("mail", "ada@example.com"), "alerts@example.org")
    assert composed["Message-ID"] == "<a1.TRIGGERED.2@example.org>"
    assert composed["Subject"] == "[warning] TRIGGERED d: hot hot"
    assert composed["To"] == "ada@example.com"


class Mailbox:
    """A connection to a mail server that answers a mail as told; how it ends is told, too."""

    def __init__(self, error: Exception | None, goodbye: Exception | None) -> None:
        self.error, self.goodbye = error, goodbye

    def send_message(self, _mail: Any) -> None:
        """Takes it, or not."""
        if self.error:
            raise self.error

    def quit(self) -> None:
        """Says goodbye."""
        if self.goodbye:
            raise self.goodbye

    def close(self) -> None:
        """Ends."""


@pytest.mark.parametrize(
    ("error", "target", "outcome"),
    [
        (None, "ada@example.com", Sent()),
        (
            smtplib.SMTPSenderRefused(553, b"no", "a@b.example"),
            "ada@example.com",
            Later("the mail server refused the sender (553)"),
        ),
        (
            smtplib.SMTPRecipientsRefused({"a": (550, b"no")}),
            "ada@example.com",
            Never("the mail server refused the address (550)"),
        ),
        (
            smtplib.SMTPNotSupportedError(),
            "ädä@example.com",
            Never("the mail server takes no address that is not ASCII"),
        ),
    ],
)
@pytest.mark.parametrize("goodbye", [None, smtplib.SMTPResponseException(421, b"bye"), TimeoutError()])
def test_what_a_mail_server_says(
    error: Exception | None,
    target: str,
    outcome: object,
    goodbye: Exception | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A temporary failure is tried again; a goodbye changes nothing of what was said before it."""
    monkeypatch.setattr(mail, "_connect", lambda *_: Mailbox(error, goodbye))
    with settings_of(SMTP_HOST="mail.example", SMTP_FROM="a@b.example", SMTP_SECURITY="none"):
        assert attempt.attempt(claim("mail", target)) == outcome
