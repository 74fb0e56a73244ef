"""A user's alert rules."""

from fastapi import APIRouter

from ingest.admin import rules as work
from ingest.api import inputs, requests
from ingest.api.callers import Anybody
from ingest.api.inputs import Body, Database, UserInPath
from ingest.api.models import Rules, RulesSet
from ingest.api.problems import Faulty
from tasks.rules.parsing import InvalidRules, parse_rules

_RULES = {"type": "array", "items": {"type": "object"}, "description": "docs/rules.md has the fields."}
_DOCUMENT = {"anyOf": [{"type": "object", "properties": {"rules": _RULES}, "required": ["rules"]}, _RULES]}

router = APIRouter(tags=["rules"])


@router.get("/rules/{user}")
def rules(caller: Anybody, database: Database, user: UserInPath) -> Rules:
    """The user's rules as they are stored; none are an empty list."""
    with database.reading() as connection:
        return Rules.model_validate(work.stored(connection, caller.may_see(user)))


@router.put("/rules/{user}", openapi_extra=inputs.document(_DOCUMENT))
def set_rules(caller: Anybody, user: UserInPath, document: Body) -> RulesSet:
    """Replaces the user's rules, as on `users/{user}/config`, or changes nothing and says every fault.

    Once it has answered, every reading is judged by the new rules.
    """
    caller.may_see(user)
    try:
        parse_rules(document)
    except InvalidRules as error:
        raise Faulty(error.errors) from None
    answer = requests.ask(caller, "config", user, document)
    if not answer["ok"]:
        raise Faulty(answer.get("errors", []))
    return RulesSet.model_validate({"rules": answer.get("rules", 0), "warnings": answer.get("warnings", [])})
