"""The domain of a rule, and which of a user's rules are in force here."""

from collections.abc import Sequence
from typing import Any

from tasks import registry
from tasks.domain.domain import AnyDomain
from tasks.rules.model import Fault
from tasks.rules.parsing import Sifted, sift_rules
from tasks.rules.rule import RuleSet
from tasks.text.wording import shorten


def about(domain: AnyDomain, rules: RuleSet) -> RuleSet:
    """The rules of a user that are about a domain, with the domain's checks."""
    return rules.of(domain.name, domain.checks, default=domain is registry.default())


def for_device(domain: AnyDomain, rules: RuleSet, device_id: str) -> RuleSet:
    """Those of the rules of `about` that are about one device, with what they have of their own for it."""
    return rules.of_device(domain.source_id(device_id)) if rules.selects else rules


def misplaced(rules: RuleSet, places: Sequence[int] | None = None) -> list[Fault]:
    """The rules that could never be judged here: about an unknown domain, or with the name of a check.

    `places` has the place of each rule in its document, if that is not its place in the set.
    """
    by_name = {domain.name: domain for domain in registry.domains()}
    faults: list[Fault] = []
    for index, rule in zip(places or range(len(rules.rules)), rules.rules, strict=True):
        domain = by_name.get(rule.domain or registry.default().name)
        if domain is None:
            message = f"must be one of {', '.join(by_name)}, got {shorten(str(rule.domain), 40)}"
            faults.append({"path": f"rules.{index}.domain", "message": message})
        elif any(check.rule_id == rule.rule_id for check in domain.checks):
            message = f"{rule.rule_id} is a check of {domain.name}; give the rule an `id` of its own"
            faults.append({"path": f"rules.{index}.{'id' if rule.id else 'key'}", "message": message})
    return faults


def in_force(raw: Any) -> Sifted:
    """The rules in force of a user's rules in the table, and all faults of the rest."""
    found = sift_rules(raw)
    return found._replace(faults=[*found.faults, *misplaced(found.rules, found.places)])
