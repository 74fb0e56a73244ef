"""The devices that a user's rules expect by name."""

from tasks.alerts import never_seen
from tasks.rules.parsing import parse_rules

SILENT = {"operator": "absent", "for_seconds": 60, "message": "silent"}


def test_names_of_absence_rules_are_expected_and_patterns_are_not() -> None:
    """From rules about the whole device; a device named twice is expected once."""
    rules = parse_rules(
        {
            "rules": [
                SILENT | {"id": "a", "devices": ["freezer", "lab-*", "*"]},
                SILENT | {"id": "b", "devices": "freezer"},
                SILENT | {"id": "c", "devices": "door"},
                SILENT | {"id": "d", "key": "battery", "devices": ["keyed"]},
                SILENT | {"id": "e"},
                {"key": "t", "operator": ">", "threshold": 1, "message": "m", "devices": "other"},
            ]
        }
    )
    assert list(never_seen.literal(rules)) == ["door", "freezer"]


def test_members_of_a_group_are_expected() -> None:
    """The group names them; a name with its sign that is not a group is a device's own."""
    rules = parse_rules({"rules": [SILENT | {"id": "a", "devices": ["@cold", "@odd", "door"]}]})
    rules = rules.with_groups({"cold": frozenset({"f1", "f2"})})
    assert list(never_seen.literal(rules)) == ["@odd", "door", "f1", "f2"]
