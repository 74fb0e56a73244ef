"""Services that Apprise knows: Slack, Teams, Telegram and others, by a URL."""

import contextlib
import logging
import warnings
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tasks.channels import guard, message, sessions
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
# Each is a request of its own, and all of them together have the time of one attempt.
MOST_TARGETS = 10
# Used also for refused hosts: users must not be able to distinguish their names from unknown ones.
NOT_TOLD = (
    "the service did not take the message, did not answer, or its host has no public address; the operator"
    " can allow networks by CHANNEL_ALLOWED_NETWORKS"
)


def send(claim: Claim) -> Outcome:
    """Sends to the service. Apprise does not say why a service refuses."""
    notice = claim.notice or {}
    if said := problem(claim.target):
        return Never(said)
    service = _service(claim.target)
    # It would sleep between two requests, for as long as the service says.
    service.request_rate_per_sec = 0
    service.throttle = lambda *_, **__: guard.check_time()
    kind = {"TRIGGERED": "warning", "FLAPPING": "warning", "ESCALATED": "failure", "RESOLVED": "success"}.get(
        str(notice.get("status")), "info"
    )
    try:
        told = service.notify(
            body=message.text(claim.template, notice), title=message.title(notice), notify_type=kind
        )
    finally:
        _end(service)
    return Sent() if told else Later(NOT_TOLD)


def problem(target: str) -> str:
    """The fault of a target, in a sentence that does not show it; empty if there is none."""
    if ";" in target:
        return "a ; is not allowed in its target: write %3B"
    try:
        given = _options(target)
    except ValueError:
        return "its target is not a URL"
    if unknown := sorted(given - OPTIONS):
        return f"the option {unknown[0]} is not supported; those that are: {', '.join(sorted(OPTIONS))}"
    return _service_problem(_service(target))


def _service_problem(service: Any) -> str:
    if service is None:
        return "Apprise does not understand its target; see https://github.com/caronc/apprise for its URLs"
    if not service.verify_certificate:
        return "it would not verify the service's certificate"
    if len(service) > MOST_TARGETS:
        return f"it names {len(service)} targets; one channel may have {MOST_TARGETS}"
    return ""


def _options(target: str) -> set[str]:
    """The names of a target's options, as Python reads them and as Apprise does. Raises `ValueError`."""
    names = {
        name.lower().lstrip("+-:") for name, _ in parse_qsl(urlsplit(target).query, keep_blank_values=True)
    }
    _library()
    from apprise.utils.parse import parse_url  # noqa: PLC0415 - it takes a second

    read: Any = parse_url  # it has no types
    # Not each service needs a host.
    parsed = read(target, verify_host=False) or {}
    for prefix in ("", "+", "-", ":"):
        names |= {str(name).lower().lstrip("+-:") for name in parsed.get(f"qsd{prefix}") or {}}
    return names


def _service(target: str) -> Any:
    apprise = _library()
    service = apprise.Apprise.instantiate(target, asset=_asset(), suppress_exceptions=True)
    if service is not None:
        kind: Any = type(service)
        service.__class__ = _silent(kind)
    return service


def _end(service: Any) -> None:
    """Has a service do now what it does at its end, such as a logout: here it is guarded."""
    # Past the silent class.
    if end := getattr(type(service).__mro__[1], "__del__", None):
        with contextlib.suppress(Exception), guard.besides():
            end(service)


@lru_cache(1000)
def _silent(kind: Any) -> Any:
    """The class, whose objects go without a request: an error may keep them until any thread drops them."""
    return type(kind.__name__, (kind,), {"__del__": lambda _: None})


@lru_cache
def _library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for modules that Python gives up
        import apprise  # noqa: PLC0415 - it takes a second

        # The first URL loads the services.
        apprise.Apprise.instantiate("ntfys://example.com/topic")
    sessions.install()

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
