"""Rules are read from a document: what is valid, and every fault of the rest. Pure."""

from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json

from tasks.rules.condition import remembered_keys
from tasks.rules.devices import NO_GROUPS, Groups
from tasks.rules.model import (
    EXPECTED,
    EXPECTED_OF_FLAPPING,
    FOR_EVERYONE,
    GROUPS,
    MAX_FIELDS,
    MAX_REMEMBERED,
    MAX_RULES,
    OVERRIDABLE,
    Condition,
    Fault,
    Rule,
    Step,
    id_of,
    is_for_everyone,
)
from tasks.rules.rule import NO_RULES, RuleSet
from tasks.rules.together import Place, meant_operator, nesting_fault, together, without_nulls
from tasks.text.paths import MISSING
from tasks.text.wording import describe, printable, shorten

MAX_DOCUMENT_BYTES = 262_144
# Enough faults to act on at once: a nonsense document must not cause an answer of megabytes.
MAX_FAULTS = 200

_TOO_MUCH_TO_REMEMBER = (
    f"at most {MAX_REMEMBERED} keys may be compared with the reading before, over all rules of a user"
)


class InvalidDocument(ValueError):
    """A user's document is invalid: `errors` has every fault, with its path and a sentence."""

    def __init__(self, errors: list[Fault]) -> None:
        super().__init__("; ".join(f"{error['path']}: {error['message']}" for error in errors[:3]))
        self.errors = errors


class InvalidRules(InvalidDocument):
    """The document is not a valid rule set; nothing of it may be used."""


class Sifted(NamedTuple):
    """The valid rules of a document, with their places in it, and the faults of the rest."""

    rules: RuleSet
    places: tuple[int, ...]
    faults: list[Fault]


def parse_rules(document: Any) -> RuleSet:
    """The rule set of a document: JSON bytes, or parsed JSON: `{"rules": […]}`, or the array alone.

    A null field counts as missing. Raises `InvalidRules` with every fault at once.
    """
    rules, faults = _array_of_rules(document)
    if len(rules) > MAX_RULES:
        raise InvalidRules([*faults, _too_many(rules)])
    found = _sift(rules, reserved=True)
    if faults or found.faults:
        raise InvalidRules(_at_most([*faults, *found.faults]))
    return found.rules


def sift_rules(document: Any, groups: Groups = NO_GROUPS) -> Sifted:
    """The valid rules of a stored document: rules in the table count as far as they are valid.

    `groups` has the devices of each group that they may name. Always the same for the same document. If rules
    share a `rule_id`, the first one counts; if there are too many rules, the first ones do.
    """
    try:
        rules, faults = _array_of_rules(document)
    except InvalidRules as error:
        return Sifted(NO_RULES, (), error.errors)
    if len(rules) > MAX_RULES:
        faults.append(_too_many(rules))
    found = _sift(rules[:MAX_RULES], groups)
    return found._replace(faults=_at_most([*faults, *found.faults]))


def _sift(rules: list[Any], groups: Groups = NO_GROUPS, *, reserved: bool = False) -> Sifted:
    """`reserved`: the names of the operator's rules are faults; from before they were, some may be stored."""
    valid: dict[int, Rule] = {}
    faults: list[Fault] = []
    owners: dict[str, int] = {}
    remembered: set[str] = set()
    for index, raw in enumerate(rules):
        rule, wrong = _parse(index, raw, owners, reserved=reserved)
        if rule is not None and not wrong:
            keys = remembered | remembered_keys(rule)
            if len(keys) > MAX_REMEMBERED:
                wrong.append(_fault(f"rules.{index}", _TOO_MUCH_TO_REMEMBER))
            else:
                valid[index], remembered = rule, keys
        faults += wrong
    return Sifted(RuleSet(tuple(valid.values()), groups=groups), tuple(valid), faults)


def _parse(
    index: int, raw: Any, owners: dict[str, int], *, reserved: bool
) -> tuple[Rule | None, list[Fault]]:
    """One rule, and all its faults; `owners` has the places of the rules before it by their rule_ids."""
    path, rule = f"rules.{index}", None
    if type(raw) is not dict:
        return None, [_fault(path, f"must be an object, got {describe(raw)}")]
    if len(raw) > MAX_FIELDS:
        return None, [_fault(path, f"has {len(raw)} fields; a rule has at most {len(EXPECTED)}")]
    if nested := nesting_fault(raw):
        return None, [_fault(path, nested)]
    given = without_nulls(raw)
    wrong: set[Place] = set()
    faults: list[Fault] = []
    try:
        rule = Rule.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        wrong = {detail["loc"] for detail in details}
        faults = [_field_fault(path, detail) for detail in details]
    faults += [_fault(at(path, place), message) for place, message in together(given, wrong)]
    named = given.keys() & {"id", "key"}
    is_one = named and not given.keys() & {*GROUPS}
    if not wrong & {("id",), ("key",)} and (is_one or "id" in given or given.get("operator") == "absent"):
        own_id = id_of(given.get("id"), given.get("key"))
        if reserved and is_for_everyone(own_id):
            message = f"must not begin with `{FOR_EVERYONE}`, as the names of the operator's rules do"
            if "id" not in given:
                message += "; give the rule an `id` of its own"
            faults.append(_fault(f"{path}.{'id' if 'id' in given else 'key'}", message))
        if owners.setdefault(own_id, index) != index:
            where = f"{path}.{'id' if 'id' in given else 'key'}" if named else path
            name, owner = shorten(own_id, 60), owners[own_id]
            message = f"`{name}` is already the rule_id of rules.{owner}; give one an `id` of its own"
            faults.append(_fault(where, message))
    return rule, faults


def suggestion(text: str, known: list[str]) -> str:
    """The end of a sentence about a misspelt name: `; did you mean …?`, or nothing."""
    near = get_close_matches(text.lower()[:64], known, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _too_many(rules: list[Any]) -> Fault:
    return _fault("rules", f"at most {MAX_RULES} rules are allowed, got {len(rules)}")


def _at_most(faults: list[Fault]) -> list[Fault]:
    more = len(faults) - MAX_FAULTS
    return faults[:MAX_FAULTS] + ([_fault("rules", f"and {more} more errors")] if more > 0 else [])


def _array_of_rules(document: Any) -> tuple[list[Any], list[Fault]]:
    if isinstance(document, bytes | bytearray | memoryview | str):
        if len(document) > MAX_DOCUMENT_BYTES:
            message = f"at most {MAX_DOCUMENT_BYTES} bytes are allowed, got {len(document)}"
            raise InvalidRules([_fault("rules", message)])
        try:
            document = from_json(bytes(document) if isinstance(document, memoryview) else document)
        except (ValueError, TypeError) as error:  # the latter for text with lone surrogates
            raise InvalidRules([_fault("rules", f"the document must be JSON: {error}")]) from None
    faults: list[Fault] = []
    if type(document) is dict:
        others = [name for name in document if name != "rules"]
        faults = [
            _fault(printable(name), f"is not a field of the document{suggestion(name, ['rules'])}")
            for name in others[:MAX_FAULTS]
        ]
        document = document.get("rules", MISSING)
    if type(document) is not list:
        got = "nothing" if document is MISSING else describe(document)
        faults.append(_fault("rules", f'must be an array of rules, as in {{"rules": […]}}, got {got}'))
        raise InvalidRules(faults)
    return document, faults


def _field_fault(path: str, detail: ErrorDetails) -> Fault:
    place = detail["loc"]
    if not place:
        return _fault(path, "has a field whose name is not text")
    name, where = str(place[-1]), at(path, place)
    if len(place) > 1 and (inside := _INSIDE.get(str(place[0]))):
        return inside(path, place, detail)
    if detail["type"] == "extra_forbidden":
        known, kind = (Rule, "rule") if len(place) == 1 else (Condition, "condition")
        return _fault(where, f"is not a field of a {kind}{suggestion(name, list(known.model_fields))}")
    if detail["type"] == "missing":
        return _fault(where, f"is missing; it must be {EXPECTED[name]}")
    if isinstance(place[-1], int):
        return _fault(where, f"must be a condition, which is an object, got {describe(detail['input'])}")
    message = f"must be {EXPECTED[name]}, got {describe(detail['input'])}"
    if name == "operator" and isinstance(detail["input"], str):
        meant = meant_operator(detail["input"])
        message += (
            f"; did you mean `{meant}`?" if meant else suggestion(detail["input"], ["absent", "unchanged"])
        )
    return _fault(where, message)


def _override_fault(path: str, place: Place, detail: ErrorDetails) -> Fault:
    """A fault inside `overrides`, whose names are those of devices."""
    where, got = at(path, place[:3]), describe(detail["input"])
    if place[2:] == ("[key]",):
        return _fault(
            at(path, place[:2]),
            'must be the id of a device, a pattern such as "freezer-*", or a group such as "@cold-room"',
        )
    if place[2:3] == ("escalate",) and len(place) > 3:
        return _step_fault(path, place, detail)
    if len(place) == 2:
        return _fault(where, f"must be an object of {', '.join(OVERRIDABLE)}, got {got}")
    if detail["type"] == "extra_forbidden":
        name, known = str(place[2]), list(OVERRIDABLE)
        return _fault(where, f"must be one of {', '.join(known)}{suggestion(name, known)}")
    return _fault(where, f"must be {EXPECTED[str(place[2])]}, got {got}")


def _step_fault(path: str, place: Place, detail: ErrorDetails) -> Fault:
    """A fault inside `escalate`."""
    where = at(path, place)
    name, got, fields = place[-1], describe(detail["input"]), list(Step.model_fields)
    if isinstance(name, int):
        return _fault(where, f"must be an object of {' and '.join(fields)}, got {got}")
    if detail["type"] == "extra_forbidden":
        return _fault(where, f"is not a field of a step{suggestion(name, fields)}")
    expected = EXPECTED["clear_threshold" if name == "threshold" else name]
    missing = detail["type"] == "missing"
    return _fault(
        where, f"is missing; it must be {expected}" if missing else f"must be {expected}, got {got}"
    )


def _flapping_fault(path: str, place: Place, detail: ErrorDetails) -> Fault:
    """A fault inside `flapping`."""
    where, name, fields = at(path, place), str(place[-1]), list(EXPECTED_OF_FLAPPING)
    if detail["type"] == "extra_forbidden":
        return _fault(where, f"is not a field of flapping{suggestion(name, fields)}")
    expected, got = EXPECTED_OF_FLAPPING[name], describe(detail["input"])
    missing = detail["type"] == "missing"
    return _fault(
        where, f"is missing; it must be {expected}" if missing else f"must be {expected}, got {got}"
    )


_INSIDE = {"overrides": _override_fault, "escalate": _step_fault, "flapping": _flapping_fault}


def at(path: str, place: Place) -> str:
    """The path of a field: `rules.0.all[1].operator`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{printable(step)}" for step in place)
    return path + "".join(steps)


def _fault(path: str, message: str) -> Fault:
    return {"path": path, "message": message}
