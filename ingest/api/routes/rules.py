"""A user's alert rules: as they are, replaced, and tried on what is stored."""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Header, Query, Response

from ingest.admin.rulesets import rules as work
from ingest.admin.rulesets.rules_rehearsal import History, Stored, judge, read
from ingest.api import inputs, requests
from ingest.api.around import tag
from ingest.api.callers import Anybody, Caller
from ingest.api.connections import Connections
from ingest.api.inputs import Body, Database, Device, Domain, Moment, UserInPath
from ingest.api.models.rules import Rehearsal, Rules, RulesSet
from ingest.api.places import Places
from ingest.api.problems import Faulty, Refused, described
from tasks.domain.domain import AnyDomain
from tasks.rules.devices import names_groups
from tasks.rules.parsing import InvalidRules, parse_rules
from tasks.rules.rule import RuleSet

_RULES = {"type": "array", "items": {"type": "object"}, "description": "docs/rules.md has the fields."}
_DOCUMENT = {"anyOf": [{"type": "object", "properties": {"rules": _RULES}, "required": ["rules"]}, _RULES]}

# Judging takes the interpreter, which all other requests need too.
MOST_READINGS = 200_000
REHEARSE_SECONDS = 10.0
MOST_FIRINGS_SHOWN = 100
_rehearsing = Places("rehearse rules", 2, 1)

MOST_TAGS = 500
CHANGED = "Somebody has changed the rules, or the operator's, since they were read; read them again."

router = APIRouter(tags=["rules"])


class Rehearsed(NamedTuple):
    """The rules of a document that are about one domain, and their alerts on what is stored of it.

    `others` counts the rules that are about other domains.
    """

    domain: AnyDomain
    rules: RuleSet
    others: int
    history: History
    begin: datetime
    end: datetime


@router.get("/rules/{user}", name="rules")
def rules_as_stored(caller: Anybody, database: Database, user: UserInPath, response: Response) -> Rules:
    """The user's rules as they are stored, none are an empty list; and the operator's, in force beside."""
    found = rules(caller, database, user)
    response.headers["etag"] = _tag(found)
    return found


def rules(caller: Caller, database: Connections, user: str) -> Rules:
    """The same."""
    with database.reading() as connection:
        stored = work.stored(connection, caller.may_see(user))
        operators = work.for_everyone(connection)
    return Rules.model_validate({**stored, "operator_rules": operators})


@router.put("/rules/{user}", openapi_extra=inputs.document(_DOCUMENT), responses=described(412))
def set_rules(
    caller: Anybody,
    database: Database,
    user: UserInPath,
    document: Body,
    *,
    if_match: Annotated[
        str | None,
        Header(max_length=MOST_TAGS, description="The `ETag` of `GET rules/{user}`: 412 if it is another."),
    ] = None,
) -> RulesSet:
    """Replaces the user's rules, as on `users/{user}/config`, or changes nothing and says every fault.

    Once it has answered, every reading is judged by the new rules.
    """
    caller.may_see(user)
    _parsed(document)
    if if_match is None or if_match.strip() == "*":
        return replace(caller, user, document)
    stored = rules(caller, database, user)
    if _tag(stored) not in [one.strip() for one in if_match.split(",")]:
        raise Refused(412, CHANGED)
    return replace(caller, user, document, seen=seen(stored))


def seen(stored: Rules) -> str:
    """The version of these rules that `replace` compares with the stored one."""
    return "" if stored.updated_at is None else stored.updated_at.isoformat()


def replace(caller: Caller, user: str, document: bytes, *, seen: str | None = None) -> RulesSet:
    """Replaces the rules, unless others have been stored since they were `seen`.

    Raises `Refused`: with 412 for those, and with every fault of the document.
    """
    _parsed(document)
    answer = requests.ask(caller, "config", caller.may_see(user), document, seen=seen)
    if answer.get("stale"):
        raise Refused(412, CHANGED)
    if not answer["ok"]:
        raise Faulty(answer.get("errors", []))
    return RulesSet.model_validate({"rules": answer.get("rules", 0), "warnings": answer.get("warnings", [])})


@router.post("/rules/{user}/rehearse", openapi_extra=inputs.document(_DOCUMENT))
def rehearse(
    caller: Anybody,
    database: Database,
    user: UserInPath,
    document: Body,
    *,
    since: Annotated[Moment, Query(description="Readings since then; by default of the last week.")] = "7d",
    device: Device = None,
    domain: Domain = None,
) -> Rehearsal:
    """Judges the user's stored readings by the rules of the document, and says how often each had fired.

    Nothing is changed, and nobody is notified.
    """
    done = rehearsed(caller, database, user, document, since, device, domain)
    told = work.as_json(done.rules, done.history, done.end)
    for one in told["rules"]:
        del one["firings"][MOST_FIRINGS_SHOWN:]
    return Rehearsal.model_validate({**told, "user_id": user, "begin": done.begin, "end": done.end})


def rehearsed(
    caller: Caller,
    database: Connections,
    user: str,
    document: bytes,
    since: str | None,
    device: str | None,
    domain: str | None,
) -> Rehearsed:
    """The alerts that the document's rules would have raised. Raises `Refused`, and what `reading` raises."""
    caller.may_see(user)
    now = datetime.now(UTC)
    begin = inputs.moment("since", since, now) or now
    chosen = inputs.domain_named(domain)
    given = _parsed(document)
    rules = work.about(chosen, given)
    others = len(given.rules) - len(rules.rules)
    with _rehearsing.one(caller), database.reading() as connection:
        if names_groups(rules.rules):
            rules = work.with_groups(connection, user, rules)
        readings = bounded(read(connection, chosen, user, device, begin, now))
        history = judge(rules, user, readings, now)
    return Rehearsed(chosen, rules, others, history, begin, now)


def bounded(readings: Iterable[Stored]) -> Iterator[Stored]:
    """The readings. Raises `Refused` beyond `MOST_READINGS` of them, and when `REHEARSE_SECONDS` are over."""
    until = time.monotonic() + REHEARSE_SECONDS
    less = "Ask for less: a later `since`, or one `device`."
    for number, one in enumerate(readings):
        if number >= MOST_READINGS:
            raise Refused(422, f"There are more than {MOST_READINGS:,} readings since then. {less}")
        if time.monotonic() > until:
            raise Refused(
                504, f"Only {number:,} of the readings were judged within {REHEARSE_SECONDS:g} s. {less}"
            )
        yield one


def _tag(found: Rules) -> str:
    return tag(found.model_dump_json().encode())


def _parsed(document: bytes) -> RuleSet:
    try:
        return parse_rules(document)
    except InvalidRules as error:
        raise Faulty(error.errors) from None
