"""Users' queries: they read back the rules in force, or the open alerts. Pure.

Answers are cut to a size that every broker and client takes; a cut answer says how to get the rest.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, from_json

from tasks.rules.answers import Answer, Asked
from tasks.rules.commands import MAX_COMMAND_BYTES
from tasks.rules.model import Fault, prose
from tasks.rules.parsing import MAX_DOCUMENT_BYTES, InvalidDocument, suggestion
from tasks.text.wording import describe, printable

MAX_QUERY_BYTES = MAX_COMMAND_BYTES
MAX_ID = 128
MOST_AT_ONCE = 100
# The size of a page in JSON; a page with a single item may be as large as a whole rule set.
PAGE_BYTES = 65_536
MOST_FAULTS = 20

EXPECTED = {
    "id": f"a string of 1 to {MAX_ID} characters",
    "limit": f"a whole number from 1 to {MOST_AT_ONCE}",
    "after": "the `next` of the answer before",
    "device_id": "the id of a device, as alerts name it",
    "silenced": "true or false",
}


class InvalidQuery(InvalidDocument):
    """The document is not a query."""


class _Query(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID), AfterValidator(prose)] | None = Field(
        None, description="Comes back in the answer. Without it the answer has an id of Sluice's."
    )
    limit: int = Field(MOST_AT_ONCE, ge=1, le=MOST_AT_ONCE, description="Maximum number in one answer.")


class RulesQuery(_Query):
    """Asks for the rules in force. Made by `parse_query`."""

    after: int = Field(0, ge=0, le=1_000_000, description="Goes on where the answer before was cut.")


_Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(prose)]


class AlertsQuery(_Query):
    """Asks for the open alerts. Made by `parse_query`."""

    after: Annotated[list[_Name], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Goes on where the answer before was cut."
    )
    device_id: _Name | None = Field(None, description="Only of this device.")
    silenced: bool = Field(
        default=False, description="Also rules that are snoozed or disabled and have no open alert."
    )


def parse_query(asked: Asked, document: bytes) -> RulesQuery | AlertsQuery:
    """The query of a document in JSON; an empty one asks for all. Raises `InvalidQuery` with every fault."""
    if len(document) > MAX_QUERY_BYTES:
        raise InvalidQuery([_whole(f"at most {MAX_QUERY_BYTES} bytes are allowed, got {len(document)}")])
    try:
        given = from_json(document) if document else {}
    except ValueError as error:
        raise InvalidQuery([_whole(f"must be JSON, or empty: {error}")]) from None
    if type(given) is not dict:
        raise InvalidQuery([_whole(f"must be an object, or empty, got {describe(given)}")])
    model = RulesQuery if asked == "rules" else AlertsQuery
    try:
        return model.model_validate(given)
    except ValidationError as error:
        known = list(model.model_fields)
        faults = [_fault(detail, known) for detail in error.errors(include_url=False)]
        # Each item of a list may be at fault; the sentence is the same.
        raise InvalidQuery(list({fault["path"]: fault for fault in faults}.values())) from None


def id_of(document: bytes) -> str | None:
    """The id that the sender gave a query, whatever else is wrong with it."""
    if not document or len(document) > MAX_QUERY_BYTES:
        return None
    try:
        given = from_json(document)
        return _Query.model_validate({"id": given["id"]}).id
    except (ValueError, KeyError, TypeError):
        return None


def rules_page(
    query: RulesQuery,
    user_id: str,
    rules: Sequence[dict[str, Any]],
    operators: Sequence[dict[str, Any]] = (),
) -> Answer:
    """The answer with the rules `after` those of the answer before, as many as fit.

    Those of the operator follow the user's own, apart.
    """
    every = [*rules, *operators]
    wanted = [_bounded(rule) for rule in every[query.after : query.after + query.limit]]
    told = fitting(wanted)
    own = max(0, len(rules) - query.after)
    answer = Answer(ok=True, rules=wanted[:told][:own], total=len(rules))
    if operators:
        answer["operator_rules"] = wanted[:told][own:]
    end = query.after + told
    if end < len(every):
        _cut(answer, end, f"users/{user_id}/rules/get")
    return answer


def alerts_page(query: AlertsQuery, user_id: str, alerts: Sequence[dict[str, Any]]) -> Answer:
    """The answer with the alerts, as many as fit.

    There is one more than the query's limit, if there is one more.
    """
    wanted = list(alerts[: query.limit])
    told = fitting(wanted)
    answer = Answer(ok=True, alerts=wanted[:told])
    if told < len(alerts):
        last = wanted[told - 1]
        _cut(answer, [last["device_id"], last["rule_id"]], f"users/{user_id}/alerts/get")
    return answer


def fitting(items: Sequence[dict[str, Any]]) -> int:
    """How many of the items a page holds, at least one if there is any."""
    size = 0
    for number, item in enumerate(items):
        size += _bytes(item) + 1
        if size > PAGE_BYTES and number:
            return number
    return len(items)


def _cut(answer: Answer, following: Any, topic: str) -> None:
    answer["next"] = following
    again = json.dumps({"after": following}, ensure_ascii=False)
    answer["hint"] = f"this is not all; publish {again} to {topic} for what follows"


def _bounded(rule: dict[str, Any]) -> dict[str, Any]:
    """The rule; or, for a rule that only SQL can have written, its name."""
    if (size := _bytes(rule)) <= MAX_DOCUMENT_BYTES:
        return rule
    message = f"this rule has {size} bytes, too many for an answer; it is in the table user_configs"
    return {"id": rule.get("id") or rule.get("key") or rule.get("operator"), "message": message}


def _bytes(item: dict[str, Any]) -> int:
    written = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
    return len(written.encode(errors="backslashreplace"))


def _whole(message: str) -> Fault:
    return {"path": "query", "message": message}


def _fault(detail: ErrorDetails, known: list[str]) -> Fault:
    if not detail["loc"]:
        return _whole("has a field whose name is not text")
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        message = f"is not a field of this query{suggestion(name, known)}"
    else:
        message = f"must be {EXPECTED[name]}, got {describe(detail['input'])}"
    return {"path": printable(name), "message": message}
