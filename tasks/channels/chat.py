"""Services that Apprise knows: Slack, Teams, Telegram and others, by a URL."""

import logging
import warnings
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tasks.channels import message
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Never, Outcome, Sent

# Others make a service read files of this machine (`template`), or not verify whom it speaks to (`verify`).
OPTIONS = {
    "channel",
    "click",
    "format",
    "mode",
    "priority",
    "silent",
    "sound",
    "tags",
    "thread",
    "to",
    "topic",
}


def send(claim: Claim) -> Outcome:
    """Tells the service. Apprise does not say why one refuses."""
    notice = claim.notice or {}
    if said := problem(claim.target):
        return Never(said)
    service = _service(claim.target)
    if service is None:
        return Never("Apprise does not understand its target")
    kind = {"TRIGGERED": "warning", "FLAPPING": "warning", "ESCALATED": "failure", "RESOLVED": "success"}.get(
        str(notice.get("status")), "info"
    )
    told = service.notify(
        body=message.text(claim.template, notice), title=message.title(notice), notify_type=kind
    )
    return Sent() if told else Later("the service did not take the message, or did not answer")


def problem(target: str) -> str:
    """What is wrong with the options of a target, in a sentence; empty if nothing is. Pure."""
    try:
        given = {
            name.lower().lstrip("+-:")
            for name, _ in parse_qsl(urlsplit(target).query, keep_blank_values=True)
        }
    except ValueError:
        return "its target is not a URL"
    if unknown := sorted(given - OPTIONS):
        return f"the option {unknown[0]} is not supported; those that are: {', '.join(sorted(OPTIONS))}"
    return ""


def understands(target: str) -> bool:
    """Whether Apprise can tell a service by this URL."""
    return _service(target) is not None


def _service(target: str) -> Any:
    apprise = _library()
    return apprise.Apprise.instantiate(target, asset=_asset(), suppress_exceptions=True)


@lru_cache
def _library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for modules that Python gives up
        import apprise  # noqa: PLC0415 - it takes a second

        # The first URL loads the services.
        apprise.Apprise.instantiate("ntfys://example.com/topic")

    # Its lines have the URLs, and with them the tokens.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logger = logging.getLogger("apprise")
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    return apprise


@lru_cache
def _asset() -> Any:
    return _library().AppriseAsset(
        app_id="Sluice",
        app_desc="Sluice",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        secure_logging=True,
    )
