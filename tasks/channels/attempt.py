"""One attempt at one delivery, in a thread of its own: guarded, bounded in time, without an exception."""

import http.client
import smtplib
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog

from tasks.channels import chat, guard, mail, webhook
from tasks.channels.claim import Claim
from tasks.channels.guard import AddressRefused
from tasks.channels.outcome import Later, Never, Outcome
from tasks.settings import settings

log = structlog.get_logger()

_SENDERS: dict[str, Callable[[Claim], Outcome]] = {
    "webhook": webhook.send,
    "mail": mail.send,
    "apprise": chat.send,
}
_SCHEMES = {"webhook": {"http", "https"}, "mail": {"mailto"}}
_NOT_OF_APPRISE = {"http", "https", "mailto"}
# All that a connection takes, in timeouts of a single step of it.
STEPS = 2
_ALLOW = "; the operator can allow networks by CHANNEL_ALLOWED_NETWORKS"
# Used both for unknown names and for names of inner addresses: users must not be able to distinguish them.
_NO_HOST = f"its host has no public address{_ALLOW}"


def attempt(claim: Claim) -> Outcome:
    """Sends to the channel. Its result names no secret. It never raises."""
    chosen = settings()
    if said := _hopeless(claim):
        return Never(said)
    # Mail goes to the operator's own server, wherever that is.
    allowed = None if claim.kind == "mail" else guard.networks(chosen.channel_allowed_networks)
    try:
        with guard.guarded(STEPS * chosen.channel_timeout_seconds, allowed):
            return _tell(claim)
    except AddressRefused as refused:
        # The address is only for the operator: from it users could read the names of the operator's networks.
        log.info("channel_refused", user_id=claim.user_id, channel=claim.name, error=str(refused))
        return _refusal(claim)


def _tell(claim: Claim) -> Outcome:
    """Sends, and returns how it ended. Raises only `AddressRefused`.

    Other errors end here, inside the guard: their frames hold the objects of libraries, which may connect
    once more when they go.
    """
    try:
        return _SENDERS[claim.kind](claim)
    except AddressRefused:
        raise
    except (OSError, http.client.HTTPException, smtplib.SMTPException) as error:
        return Later(_reason(error, claim.kind))
    except Exception as error:  # noqa: BLE001 - a library's fault with one channel must not stop the others
        return Later(f"an error inside Sluice: {type(error).__name__}")


def _refusal(claim: Claim) -> Outcome:
    """An address stays what it is; what a name means may be wrong for a moment."""
    if guard.is_address(_host(claim.target)):
        return Never(f"the address in its target is not public{_ALLOW}")
    return Later(chat.NOT_TOLD if claim.kind == "apprise" else _NO_HOST)


def _host(target: str) -> str:
    try:
        return urlsplit(target).hostname or ""
    except ValueError:
        return ""


def _hopeless(claim: Claim) -> str:
    """Why a delivery need not be tried; empty if it must be."""
    if claim.notice is None:
        return "the change is no longer in alert_history"
    if claim.attempts > settings().channel_attempts:
        # Those before this one were counted, and nobody was left to mark how they ended.
        return "given up after CHANNEL_ATTEMPTS: its worker died each time"
    return scheme_problem(claim.kind, claim.target)


def scheme_problem(kind: str, target: str) -> str:
    """Why the operator's list does not allow this target; empty if it does.

    The schemes of webhooks and of mail are not Apprise's: it would take another mail server, or a service
    that the list leaves out, by the URL of its page.
    """
    listed = [one.strip() for one in settings().channel_schemes.split(",")]
    own = _SCHEMES.get(kind)
    allowed = [one for one in listed if (one in own if own else one not in _NOT_OF_APPRISE)]
    scheme = "mailto" if kind == "mail" else target.partition("://")[0]
    if scheme in allowed:
        return ""
    names = ", ".join(allowed) or "none"
    return f"the scheme {scheme} is not allowed; of the kind {kind} CHANNEL_SCHEMES allows {names}"


def _reason(error: Exception, kind: str) -> str:
    """The error in words that hold nothing of the target."""
    if isinstance(error, socket.gaierror) and kind == "webhook":
        return _NO_HOST
    if isinstance(error, guard.TooManyConnections):
        return str(error)
    return _failure(error)


def _failure(error: Exception) -> str:
    # smtplib reports an answer that does not come in time as a connection that ended.
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server answered {error.smtp_code}"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, smtplib.SMTPException):
        return error.strerror
    return f"the connection failed: {type(error).__name__}"
