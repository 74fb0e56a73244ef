"""A user's alert rules, as sentences and as the document that is edited."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from ingest.admin.rulesets import rules as work
from ingest.api.inputs import Database
from ingest.api.models.rules import Fault, Rules
from ingest.api.problems import NotFound, Refused
from ingest.api.routes import rules as routes
from ingest.console import rehearsal, render
from ingest.console.guard import Form, Visiting, Word
from tasks import registry
from tasks.domain.placement import in_force

_CHANGED = "Somebody has changed the rules since this page was loaded; load it again."

router = APIRouter()


@router.get("/rules")
def page(request: Request, visitor: Visiting, database: Database, user: Word = None) -> Response:
    """The rules of the user; the operator says of which."""
    wanted = visitor.caller.only(user)
    if wanted is None:
        return render.page("rules.html", request, user="")
    stored = routes.rules(visitor.caller, database, wanted)
    return _page(request, wanted, stored, _document(stored))


@router.post("/rules")
def replace(request: Request, visitor: Visiting, database: Database, given: Form) -> Response:
    """Replaces the user's rules, or changes nothing and says every fault, with what was typed."""
    user, document = visitor.caller.may_see(given.get("user", "")), given.get("document", "")
    stored = routes.rules(visitor.caller, database, user)
    seen = given.get("seen", "")
    if seen != routes.seen(stored):
        return _page(request, user, stored, document, error=Refused(409, _CHANGED))
    try:
        done = routes.replace(visitor.caller, user, document.encode(), seen=seen)
    except Refused as error:
        if isinstance(error, NotFound):
            raise
        if error.status == HTTPStatus.PRECONDITION_FAILED:
            # Between the look and the worker's.
            error = Refused(409, _CHANGED)
        return _page(request, user, stored, document, error=error)
    stored = routes.rules(visitor.caller, database, user)
    return _page(request, user, stored, _document(stored), done=done.rules, warnings=done.warnings)


@router.post("/rules/rehearse")
def rehearse(request: Request, visitor: Visiting, database: Database, given: Form) -> Response:
    """Tries what was typed on the user's stored readings: nothing is stored, and nobody is notified."""
    user, document = visitor.caller.may_see(given.get("user", "")), given.get("document", "")
    stored = routes.rules(visitor.caller, database, user)
    chosen = rehearsal.Chosen(
        given.get("since", "").strip() or rehearsal.BY_DEFAULT,
        given.get("device", "").strip(),
        given.get("domain", ""),
    )
    # A change that somebody made since the page was loaded is reported when the rules are replaced.
    kept: dict[str, Any] = {"chosen": chosen, "seen": given.get("seen", "")}
    try:
        tried = rehearsal.look(visitor.caller, database, user, document, chosen)
    except Refused as error:
        if isinstance(error, NotFound):
            raise
        return _page(request, user, stored, document, error=error, said="Nothing was tried:", **kept)
    return _page(request, user, stored, document, tried=tried, **kept)


def _page(
    request: Request,
    user: str,
    stored: Rules,
    document: str,
    *,
    error: Refused | None = None,
    said: str = "Nothing was changed:",
    done: int | None = None,
    warnings: Sequence[Fault] = (),
    tried: rehearsal.View | None = None,
    chosen: rehearsal.Chosen = rehearsal.Chosen(),  # noqa: B008 - it never changes
    seen: str | None = None,
) -> Response:
    values: dict[str, Any] = {
        "sentences": list(work.explain(in_force(stored.rules).rules)),
        "stored": stored,
        "seen": routes.seen(stored) if seen is None else seen,
        "document": document,
        "faults": render.faults(error),
        "said": said,
        "tried": tried,
        "chosen": chosen,
        "domains": [one.name for one in registry.domains()],
        "done": done,
        "warnings": [(one.path, one.message) for one in warnings],
        "not_in_force": [(str(one["path"]), str(one["message"])) for one in stored.faults],
    }
    status = 200 if error is None else error.status
    return render.page("rules.html", request, status=status, user=user, **values)


def _document(stored: Rules) -> str:
    return json.dumps({"rules": stored.rules}, indent=2, ensure_ascii=False)
