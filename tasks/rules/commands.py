"""Commands of users about one rule of one device: SNOOZE, DISABLE, ENABLE, ACKNOWLEDGE.

A command is about the `rule_id`: it outlives a change of the rule, but not its removal.
"""

from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, from_json

from tasks.rules.change import iso
from tasks.rules.machine import Changes
from tasks.rules.model import FOR_EVERYONE, Fault, is_for_everyone, prose
from tasks.rules.parsing import InvalidDocument, suggestion
from tasks.rules.rule import Compiled, RuleSet
from tasks.rules.state import Acknowledged, DeviceState, RuleState, Status, from_us
from tasks.rules.transition import Cause, Draft
from tasks.text.wording import describe, id_fault, printable, shorten

Action = Literal["SNOOZE", "DISABLE", "ENABLE", "ACKNOWLEDGE"]

# How the names of operators begin, as the authors of commands; users' have no slash.
OPERATOR = "operator/"
MAX_MINUTES = 43_200
MAX_NOTE = 500
# Operator's rules count, too; they may be named by their keys.
MAX_RULE_ID = 256 + len(FOR_EVERYONE)
MAX_COMMAND_BYTES = 4096

EXPECTED = {
    "device_id": "the id of a device, as alerts name it",
    "rule_id": "the `id` of a rule, or its `key` where it has none",
    "action": "one of " + ", ".join(get_args(Action)),
    "note": f"a string of 1 to {MAX_NOTE} characters",
    "duration_minutes": f"a number of minutes above 0, up to {MAX_MINUTES} (30 days)",
}


class InvalidCommand(InvalidDocument):
    """The document is not a command."""


class CannotManage(Exception):
    """The command is well-formed, but not possible at present. Its text is a sentence for the user."""


def _id(text: str) -> str:
    # A source of another domain has that domain's name as a prefix, and may itself hold slashes.
    if any(id_fault(part) for part in text.split("/")):
        raise ValueError
    return text


class Command(BaseModel):
    """A user's command. Made by `parse_command`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    device_id: Annotated[str, AfterValidator(_id)] = Field(
        description="The device; for a source of another domain, `NAME/ID`."
    )
    rule_id: str = Field(
        min_length=1, max_length=MAX_RULE_ID, description="The `id` of the rule, or else its `key`."
    )
    action: Action = Field(description="The action; see below.")
    duration_minutes: float | None = Field(
        None,
        gt=0,
        le=MAX_MINUTES,
        description="Length of a snooze. Required for `SNOOZE`, not allowed otherwise.",
    )
    note: Annotated[str, Field(min_length=1, max_length=MAX_NOTE), AfterValidator(prose)] | None = Field(
        None, description="What others should know, with `ACKNOWLEDGE`."
    )


class Origin(NamedTuple):
    """The sender of a command, the time (ms), and the id by which a redelivered command is recognised."""

    command_id: str
    at_ms: int
    by: str


def parse_command(document: Any) -> Command:
    """The command of a document: JSON bytes, or parsed JSON. Raises `InvalidCommand` with every fault."""
    if isinstance(document, bytes):
        if len(document) > MAX_COMMAND_BYTES:
            message = f"at most {MAX_COMMAND_BYTES} bytes are allowed, got {len(document)}"
            raise InvalidCommand([{"path": "command", "message": message}])
        try:
            document = from_json(document)
        except ValueError as error:
            raise InvalidCommand([{"path": "command", "message": f"must be JSON: {error}"}]) from None
    if type(document) is not dict:
        message = f"must be an object, got {describe(document)}"
        raise InvalidCommand([{"path": "command", "message": message}])
    faults: list[Fault] = []
    try:
        command = Command.model_validate(document)
    except ValidationError as error:
        faults = [_fault(detail) for detail in error.errors(include_url=False)]
    wrong = {fault["path"] for fault in faults}
    # An invalid action may be anything, also something that cannot be looked up in a set.
    action = None if "action" in wrong else document.get("action")
    minutes = document.get("duration_minutes")
    if action == "SNOOZE" and minutes is None:
        sentence = f"is missing; it must be {EXPECTED['duration_minutes']}"
        faults.append({"path": "duration_minutes", "message": sentence})
    elif (
        action in {"DISABLE", "ENABLE", "ACKNOWLEDGE"}
        and minutes is not None
        and "duration_minutes" not in wrong
    ):
        sentence = f"is not allowed with {action}, which has no end; did you mean `SNOOZE`?"
        faults.append({"path": "duration_minutes", "message": sentence})
    if action in {"SNOOZE", "DISABLE", "ENABLE"} and document.get("note") is not None and "note" not in wrong:
        sentence = f"is not allowed with {action}; did you mean `ACKNOWLEDGE`?"
        faults.append({"path": "note", "message": sentence})
    if faults:
        raise InvalidCommand(faults)
    return command


def manage(
    state: DeviceState, rules: RuleSet, command: Command, origin: Origin
) -> tuple[DeviceState, Changes]:
    """Executes a command. A repeated command, or one older than the last executed one, changes nothing.

    - SNOOZE silences a rule, whether or not it has an open alert, or lengthens or shortens its snooze. During
      the snooze nothing triggers; an alert that ends is resolved at once; one still open at the end triggers
      again. It ends flapping: an alert whose rule is not violated is resolved.
    - DISABLE silences a rule, with or without an alert, until ENABLE. It is the last change of an open alert.
    - ENABLE ends either. After a snooze, an alert still open triggers again at the next reading.
    - ACKNOWLEDGE notes on an open alert who has seen it, and why it is open. It goes with the alert; another
      one replaces it.

    DISABLE of a disabled rule and ENABLE of an enabled one change nothing. Raises `CannotManage`.
    """
    if (
        command.action == "DISABLE"
        and is_for_everyone(command.rule_id)
        and not origin.by.startswith(OPERATOR)
    ):
        raise CannotManage(
            f"`{shorten(command.rule_id, 60)}` is a rule of the operator, which cannot be disabled; SNOOZE"
            " silences it for a while"
        )
    rule = rules.by_id.get(command.rule_id)
    if rule is None:
        known = suggestion(command.rule_id, list(rules.by_id))
        raise CannotManage(f"there is no rule `{shorten(command.rule_id, 60)}`{known}")
    entry = state.entries.get(command.rule_id) or RuleState(Status.OK, rule.facts)
    if entry.command_at is not None and (
        origin.at_ms < entry.command_at or origin.command_id == entry.command_id
    ):
        return state, ()
    draft = Draft(state, Cause(from_us(origin.at_ms * 1000), by=origin.by))
    if entry.status in {Status.OK, Status.DISABLED} or entry.first_seen is None:
        entry = entry._replace(facts=rule.facts)
    entry = entry._replace(command_at=origin.at_ms, command_id=origin.command_id)
    match command.action:
        case "SNOOZE":
            _snooze(draft, rule, entry, command, origin)
        case "DISABLE":
            _disable(draft, rule, entry, origin)
        case "ENABLE":
            _enable(draft, rule, entry, origin)
        case "ACKNOWLEDGE":
            _acknowledge(draft, rule, entry, command, origin)
    return draft.finish(), tuple(draft.changes)


def _snooze(draft: Draft, rule: Compiled, entry: RuleState, command: Command, origin: Origin) -> None:
    assert command.duration_minutes is not None
    if entry.status is Status.DISABLED:
        raise CannotManage(f"the rule `{rule.rule_id}` is disabled for this device; ENABLE it first")
    if entry.is_refused:
        # There is nothing to announce again, and the clock finds an absence that goes on.
        absence = entry.facts.operator == "absent"
        entry = entry.in_order() if absence else entry._replace(alert_id=None)
    until = origin.at_ms + round(command.duration_minutes * 60_000)
    is_over = entry.status is Status.FLAPPING and entry.flips is not None and entry.flips.over
    entry = entry._replace(status=Status.SNOOZED, snoozed_until=until, flips=None)
    draft.entries[rule.rule_id] = entry
    alert_id = entry.alert_id or _command_alert_id(draft, rule, origin)
    reason = f"until {iso(from_us(until * 1000))}"
    draft.add_change("SNOOZED", rule.rule_id, entry, alert_id, reason)
    if is_over:
        draft.resolve(rule.rule_id, entry, origin.at_ms, entry.value, entry.values)


def _disable(draft: Draft, rule: Compiled, entry: RuleState, origin: Origin) -> None:
    if entry.status is Status.DISABLED:
        return
    alert_id = entry.alert_id if entry.is_open else None
    alert_id = alert_id or _command_alert_id(draft, rule, origin)
    draft.add_change("DISABLED", rule.rule_id, entry, alert_id)
    calm = entry.in_order()
    draft.entries[rule.rule_id] = calm._replace(status=Status.DISABLED, alert_id=alert_id)


def _enable(draft: Draft, rule: Compiled, entry: RuleState, origin: Origin) -> None:
    if entry.status is Status.DISABLED:
        enabled = entry.in_order()
    elif entry.status is Status.SNOOZED and entry.is_open:
        enabled = entry._replace(status=Status.ACTIVE, snoozed_until=origin.at_ms)
    elif entry.status is Status.SNOOZED and entry.first_seen is not None:
        enabled = entry._replace(status=Status.PENDING, snoozed_until=None)
    elif entry.status is Status.SNOOZED:
        enabled = entry.in_order()
    else:
        return
    draft.entries[rule.rule_id] = enabled
    alert_id = entry.alert_id or _command_alert_id(draft, rule, origin)
    draft.add_change("ENABLED", rule.rule_id, entry, alert_id)


def _acknowledge(draft: Draft, rule: Compiled, entry: RuleState, command: Command, origin: Origin) -> None:
    alert_id = entry.alert_id
    if alert_id is None or not entry.is_open:
        raise CannotManage(f"the rule `{rule.rule_id}` has no open alert for this device")
    entry = entry._replace(acknowledged=Acknowledged(origin.at_ms, origin.by, command.note))
    draft.entries[rule.rule_id] = entry
    draft.add_change("ACKNOWLEDGED", rule.rule_id, entry, alert_id)


def _command_alert_id(draft: Draft, rule: Compiled, origin: Origin) -> str:
    return draft.derive_id(rule.rule_id, "command", origin.command_id)


def _fault(detail: ErrorDetails) -> Fault:
    if not detail["loc"]:
        return {"path": "command", "message": "has a field whose name is not text"}
    name = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        message = f"is not a field of a command{suggestion(name, list(EXPECTED))}"
    elif detail["type"] == "missing":
        message = f"is missing; it must be {EXPECTED[name]}"
    else:
        message = f"must be {EXPECTED[name]}, got {describe(detail['input'])}"
        given = detail["input"]
        if name == "action" and isinstance(given, str) and given.upper() in get_args(Action):
            message += "; actions are written in capitals"
    return {"path": printable(name), "message": message}
