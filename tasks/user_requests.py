"""Users' requests over MQTT: new rules, commands, and queries. One task for each, and its answer.

A control process sends a request and waits for the answer, one request of a user at a time. If no answer
comes, it sends the request again under the same id, so a task may run twice, even at once, and late: the
request's key in Redis says whether the control process still waits.
"""

import json
import time
from collections.abc import Callable
from datetime import datetime

import psycopg
import structlog
from psycopg.types.json import Jsonb

from tasks import calls, registry
from tasks.alerts import reading_back, recent, state_store, stored_rules, unknown_devices
from tasks.alerts.known_devices import is_known
from tasks.alerts.rule_cache import versioned
from tasks.app import app
from tasks.batch.marks import is_not_now
from tasks.domain.placement import about, for_device, misplaced
from tasks.domain.stored import keeps_all
from tasks.errors import DatabaseAway, NotNow
from tasks.observe.internal_error import internal_error
from tasks.outbox import deliver, stream
from tasks.rules.answers import Answer, Asked, Kind, Reply, refusal
from tasks.rules.commands import CannotManage, InvalidCommand, Origin, manage, parse_command
from tasks.rules.devices import names_groups
from tasks.rules.model import Fault
from tasks.rules.parsing import InvalidRules, parse_rules
from tasks.rules.queries import InvalidQuery
from tasks.rules.rule import RuleSet
from tasks.rules.warnings import empty_groups, warnings
from tasks.servers import database, generation
from tasks.servers.redis_client import answered_key, answers_key, client, request_key
from tasks.servers.rules_version import announce_change
from tasks.text.wording import application

log = structlog.get_logger()

# How long a command may wait for the database; the control process sends it again.
SETTLE_SECONDS = 5.0
# A control process that was killed before it acknowledged gets the message again at its next start.
KEEP_ANSWERS_SECONDS = 3600

LOCK = "SELECT pg_advisory_xact_lock(hashtext('sluice_rules'), hashtext(%s))"
REPLACE = """
INSERT INTO user_configs (user_id, rules) VALUES (%s, %s)
ON CONFLICT (user_id) DO UPDATE SET rules = EXCLUDED.rules
WHERE user_configs.rules IS DISTINCT FROM EXCLUDED.rules
"""
# A writer by SQL waits until the rules are replaced, or its change is seen here.
SEEN = "SELECT updated_at, rules = %s FROM user_configs WHERE user_id = %s FOR UPDATE"
BEGIN = "INSERT INTO user_configs (user_id, rules) VALUES (%s, %s) ON CONFLICT (user_id) DO NOTHING"


STALE = Answer(
    ok=False,
    stale=True,
    errors=[{"path": "rules", "message": "somebody has changed the rules since they were read"}],
)


class ChangedMeanwhile(Exception):
    """The rules are no longer those that were seen."""


class NobodyWaits(Exception):
    """The control process has given the request up, or has its answer: the request must not be done now."""


@app.task(name="tasks.config.set_rules", throws=(NotNow,))
def set_rules(
    user_id: str,
    document: bytes,
    request: str,
    control: str,
    retained: bool = False,
    by: str | None = None,
    seen: str | None = None,
) -> None:
    """Replaces the user's rules by those of the document, or changes nothing and answers with every error.

    Once the answer is there, every reading is judged by the new rules. The broker has kept a `retained`
    document for an unknown time: it counts only for a user who does not have rules yet. The author is the
    user, unless it is given: an operator, whose changes are in the operators' trail. `seen` is when the rules
    that the author has seen were changed last, empty for none: rules that were changed since stay, and the
    answer is stale. Raises `DatabaseAway`, `redis.RedisError`; then there is no answer.
    """
    _answer(
        "config",
        user_id,
        request,
        control,
        lambda: _set_rules(user_id, document, request, retained=retained, by=by, seen=seen),
    )


@app.task(name="tasks.config.manage", throws=(NotNow,))
def manage_alert(
    user_id: str, document: bytes, request: str, control: str, at_ms: int, by: str | None = None
) -> None:
    """Executes a command about one rule of one device, as of `at_ms`, or answers why not.

    The author is the user, unless it is given.

    Raises `NotNow`, `redis.RedisError`, `psycopg.Error`; then there is no answer.
    """
    _answer(
        "manage",
        user_id,
        request,
        control,
        lambda: _manage(user_id, document, Origin(request, at_ms, by or user_id)),
    )


@app.task(name="tasks.config.read_back", throws=(NotNow,))
def read_back(kind: Asked, user_id: str, document: bytes, request: str, control: str) -> None:
    """Answers a query with what the tables hold for the user.

    Raises `NotNow`, `redis.RedisError`, `psycopg.Error`; then there is no answer.
    """
    # A second run does no harm, so the answer, which may be large, need not be kept.
    _answer(kind, user_id, request, control, lambda: _read_back(kind, user_id, document), keep_seconds=0)


def _answer(
    kind: Kind,
    user_id: str,
    request: str,
    control: str,
    work: Callable[[], Answer | None],
    *,
    keep_seconds: int = KEEP_ANSWERS_SECONDS,
) -> None:
    """Does the work and reports its answer; a bug gets an answer, too. Raises what is *not now*."""
    if not _is_awaited(request):
        log.info("request_given_up", request=request, kind=kind)
        return
    try:
        answer = work()
    except NobodyWaits:
        log.info("request_given_up", request=request, kind=kind)
        return
    except Exception as error:
        if is_not_now(error):
            raise
        answer = internal_error(kind, user_id, request)
    _reply(request, control, answer, keep_seconds)


def _set_rules(
    user_id: str, document: bytes, request: str, *, retained: bool, by: str | None, seen: str | None
) -> Answer | None:
    try:
        rules = parse_rules(document)
    except InvalidRules as error:
        return refusal(error.errors)
    if misplaced_rules := misplaced(rules):
        return refusal(misplaced_rules)
    try:
        written = _write(user_id, rules, request, retained=retained, by=by, seen=seen)
    except ChangedMeanwhile:
        return STALE
    except psycopg.Error as error:
        if not database.refuses_data(error):
            raise DatabaseAway(str(error).strip()) from error
        log.error("rules_refused", user_id=user_id, error=str(error).strip())  # noqa: TRY400 - the sentence says all
        message = "the database refuses these rules; please contact the operator of this service"
        return refusal([{"path": "rules", "message": message}])
    announce_change()
    log.info("rules_set", user_id=user_id, rules=len(rules.rules), retained=retained, changed=written, by=by)
    if retained and not written:
        return None
    answer = Answer(ok=True, rules=len(rules.rules))
    named = {rule.domain: registry.by_name(rule.domain or "") for rule in rules.rules}
    samples = {name: recent.payloads(domain, user_id) for name, domain in named.items()}
    partial = [name for name, domain in named.items() if not keeps_all(domain)]
    doubtful = warnings(rules, samples, partial)
    if names_groups(rules.rules):
        doubtful += empty_groups(stored_rules.with_groups(user_id, rules))
    doubtful += _about_nobody(user_id, rules)
    if doubtful:
        answer["warnings"] = doubtful
    return answer


def _about_nobody(user_id: str, rules: RuleSet) -> list[Fault]:
    # The rules are in force: a search that takes too long must not have them set again.
    try:
        return unknown_devices.doubts(user_id, rules)
    except psycopg.errors.QueryCanceled:
        log.warning("devices_not_looked_up", user_id=user_id)
        return []


def _write(
    user_id: str, rules: RuleSet, request: str, *, retained: bool, by: str | None, seen: str | None
) -> bool:
    """Writes the rules; returns whether the table changed. Raises `NobodyWaits`, `ChangedMeanwhile`."""
    document = Jsonb([rule.model_dump(exclude_unset=True) for rule in rules.rules])
    with database.access() as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{calls.SET_RULES_SECONDS}s'")
        # Checked under the lock: a late copy of this request cannot undo a request that came after it.
        cursor.execute(LOCK, [user_id])
        if not _is_awaited(request):
            raise NobodyWaits
        if seen is not None:
            found = cursor.execute(SEEN, [document, user_id]).fetchone()
            changed_at, same = found or (None, False)
            # The same, too, where this is another run, after one that wrote them and could not answer.
            if not same and changed_at != (datetime.fromisoformat(seen) if seen else None):
                raise ChangedMeanwhile
        if by is not None:
            # The versions and the operators' trail name who writes by the application.
            cursor.execute("SELECT set_config('application_name', %s, true)", [application(by)])
        cursor.execute(BEGIN if retained else REPLACE, [user_id, document])
        return cursor.rowcount > 0


def _manage(user_id: str, document: bytes, origin: Origin) -> Answer:
    try:
        command = parse_command(document)
    except InvalidCommand as error:
        return refusal(error.errors)
    domain = registry.of_device(command.device_id)
    if domain is None:
        message = "must be the id of a device, or NAME/ID for a source of another domain"
        return refusal([{"path": "device_id", "message": message}])
    if not is_known(domain, user_id, command.device_id):
        message = "there is no such device: it has no account and has sent nothing"
        return refusal([{"path": "device_id", "message": message}])
    own, version = versioned([user_id])
    rules = for_device(domain, about(domain, own[user_id]), command.device_id)
    try:
        changes, judged_in = state_store.commit(
            [(user_id, command.device_id)], lambda state: manage(state, rules, command, origin), version
        )
    except CannotManage as error:
        return refusal([{"path": "command", "message": str(error)}])
    log.info(
        "alert_managed",
        user_id=user_id,
        device_id=command.device_id,
        rule_id=command.rule_id,
        action=command.action,
        changes=len(changes),
        waited_ms=int(time.time() * 1000) - origin.at_ms,
    )
    if changes:
        deliver.wake()
    # An answered command survives any loss in Redis, even if it was executed before but not answered.
    deliver.await_written(SETTLE_SECONDS, stream.awaited([user_id]))
    if generation.current() != judged_in:
        raise NotNow("Redis lost its memory, and perhaps the command with it")
    return Answer(ok=True)


def _read_back(asked: Asked, user_id: str, document: bytes) -> Answer:
    try:
        return reading_back.read_back(asked, user_id, document)
    except InvalidQuery as error:
        return refusal(error.errors)


def _is_awaited(request: str) -> bool:
    return bool(client().exists(request_key(request)))


def _reply(request: str, control: str, answer: Answer | None, keep_seconds: int) -> None:
    reply = json.dumps(Reply(request=request, answer=answer))
    pipeline = client().pipeline(transaction=True)
    if keep_seconds:
        pipeline.set(answered_key(request), reply, ex=keep_seconds)
    pipeline.rpush(answers_key(control), reply)
    pipeline.expire(answers_key(control), KEEP_ANSWERS_SECONDS)
    pipeline.delete(request_key(request))
    pipeline.execute()
