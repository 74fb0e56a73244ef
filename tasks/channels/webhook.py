"""The signed webhook: a POST of the change as JSON, which the receiver can verify and recognise."""

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import time
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from tasks.channels import message, retries
from tasks.channels.claim import Claim
from tasks.channels.outcome import Later, Never, Outcome, Sent
from tasks.settings import settings

# Answers that speak of this message or this address, not of the moment. All others may change.
_MOVED_FOR_NOW = {302, 303, 307}
_NEVER = {400, 405, 406, 410, 411, 413, 414, 415, 422, 431, 501, 505}


def body(claim: Claim) -> bytes:
    """The change as it is published over MQTT, and `text` where the channel has a template. Pure."""
    notice = claim.notice or {}
    said = notice if claim.template is None else {**notice, "text": message.text(claim.template, notice)}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def sign(secret: str, timestamp: int, content: bytes) -> str:
    """The signature: HMAC-SHA256 over `timestamp.content`, in hexadecimal. Pure."""
    signed = str(timestamp).encode() + b"." + content
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def send(claim: Claim) -> Outcome:
    """Posts the change. Redirects are not followed. Raises `OSError` and `http.client.HTTPException`."""
    content, timestamp = body(claim), int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Sluice",
        "Idempotency-Key": claim.key,
        "Sluice-Timestamp": str(timestamp),
        "Sluice-Signature": f"v1={sign(claim.secret, timestamp, content)}",
    }
    try:
        parts = urlsplit(claim.target)
        port = parts.port
    except ValueError:
        return Never("its target is not a URL")
    if not parts.hostname:
        return Never("its target names no host")
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    # Without one, http.client takes the end of an IPv6 address for it.
    port = port if port is not None else {"https": 443}.get(parts.scheme, 80)
    connection = _connection(parts.scheme, parts.hostname, port)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, content, headers)
        answer = connection.getresponse()
        return judge(answer.status, answer.getheader("Retry-After"))
    except (UnicodeError, http.client.InvalidURL):
        return Never("its target is not a URL")
    finally:
        connection.close()


def judge(status: int, retry_after: str | None) -> Outcome:
    """The outcome that an answer means. Pure, but for the clock."""
    if 200 <= status < 300:
        return Sent()
    why = f"the server answered {status}"
    if 300 <= status < 400:
        why = f"{why}: redirects are not followed, set the address that it redirects to"
        return Later(why) if status in _MOVED_FOR_NOW else Never(why)
    if status in {429, 503}:
        return Later(why, retries.asked_seconds(retry_after, datetime.now(UTC)))
    return Never(why) if status in _NEVER else Later(why)


def _connection(scheme: str, host: str, port: int) -> http.client.HTTPConnection:
    seconds = settings().channel_timeout_seconds
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=_context())
    return http.client.HTTPConnection(host, port, timeout=seconds)


@lru_cache
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings().tls_ca_file is not None:
        # Besides the public ones: a receiver in the operator's own network has one of the operator's.
        context.load_verify_locations(settings().tls_ca_file)
    return context
