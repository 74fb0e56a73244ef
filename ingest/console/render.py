"""Pages from templates: everything that is put into one is escaped."""

import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from ingest.admin import devices
from ingest.api.problems import Faulty, Refused
from ingest.api.request_ids import current
from tasks.text.times import in_utc

_STATIC = files("ingest.console") / "static"
STYLE = (_STATIC / "console.css").read_bytes()
ICON = (_STATIC / "icon.svg").read_bytes()
STYLE_VERSION = hashlib.sha256(STYLE).hexdigest()[:12]

DASH = "\N{EN DASH}"
HEADERS = {
    # No script, nothing of other sites, no frame around it, and forms that go to us alone.
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
}


def page(template: str, request: Request | None = None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """The page of a template, as the visitor of the request sees it."""
    visitor = None if request is None else getattr(request.state, "visitor", None)
    path = "" if request is None else request.url.path
    text = _environment.get_template(template).render(visitor=visitor, path=path, now=_now(), **values)
    return HTMLResponse(text, status, HEADERS)


def refused(
    status: int, detail: str, headers: dict[str, str] | None = None, request: Request | None = None
) -> HTMLResponse:
    """The page that says why there is no other."""
    answer = page("error.html", request, status=status, code=status, detail=detail, request_id=current())
    answer.headers.update(headers or {})
    return answer


def faults(error: Refused | None) -> list[tuple[str, str]]:
    """The faults of a form: the place and the sentence of each."""
    if error is None:
        return []
    if isinstance(error, Faulty):
        return [(fault.path, fault.message) for fault in error.faults]
    return [("", error.detail)]


def url(path: str, **query: object) -> str:
    """A path of the console with those parameters that have a value."""
    given = {name: value for name, value in query.items() if value is not None and value != ""}
    return f"{path}?{urlencode(given)}" if given else path


def moment(value: datetime | str | None) -> str:
    """A time to the second, in UTC; a dash for none."""
    if value is None:
        return DASH
    return in_utc(datetime.fromisoformat(value) if isinstance(value, str) else value)


def ago(value: datetime | None) -> str:
    """For how long something has been; a dash for none."""
    return DASH if value is None else devices.span(_now() - value)


def shown(value: object) -> str:
    """A value of a reading or an alert; a dash for none."""
    match value:
        case None:
            return DASH
        case str():
            return value
        case datetime():
            return in_utc(value)
        case float():
            return f"{value:.10g}"
        case int() if not isinstance(value, bool):
            return f"{value:,}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _now() -> datetime:
    return datetime.now(UTC)


_environment = Environment(
    loader=PackageLoader("ingest.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters.update(moment=moment, ago=ago, shown=shown)
_environment.globals.update(url=url, style=f"/static/console.css?{STYLE_VERSION}")
