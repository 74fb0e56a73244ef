"""The operator's rules, which hold for every user beside the user's own. Pure."""

from collections.abc import Sequence

from tasks.rules.model import FOR_EVERYONE, Rule
from tasks.rules.rule import RuleSet

EVERYONE = "+"
"""The user whose rules these are in the tables. As a wildcard of MQTT it can be nobody's id, nor in a topic
that anybody publishes to."""


def named(rules: RuleSet) -> tuple[Rule, ...]:
    """The operator's rules under the ids that they have for users: `operator:` and their own."""
    return tuple(rule.model_copy(update={"id": f"{FOR_EVERYONE}{rule.rule_id}"}) for rule in rules.rules)


def beside(own: RuleSet, operators: Sequence[Rule]) -> RuleSet:
    """A user's rules, and those of the operator as `named` has them, about the user's devices and groups.

    A rule of the user that has the id of one of these, from before such ids were refused, gives way.
    """
    if not operators:
        return own
    taken = {rule.rule_id for rule in operators}
    kept = tuple(rule for rule in own.rules if rule.rule_id not in taken)
    return RuleSet((*kept, *operators), own.checks, own.groups)
